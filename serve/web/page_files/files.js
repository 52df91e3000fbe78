/** A file of texts, opened or dropped on the page: tagged in small requests, with a bar that shows how far it is. */

import { $, button, count, download, el, paged } from "./elements.js";
import { asColumns, asJsonLines, readItems } from "./formats.js";
import { neighbours, wanted } from "./options.js";
import { attempt, call } from "./service.js";
import { coloured, percent, typeName } from "./text.js";

const ITEMS = 16; // of a request, at most
const CHARACTERS = 6000; // of a request, about: a few seconds
const SHORT = 5000; // characters of a file of one text that is shown as if it had been written into the field
const ROWS = 15; // of the table of names, at once

let running = null; // AbortController of the file that is being tagged

/** Opens a file; `show` gets a single short text, which is tagged like one that was written. */
export function openFile(file, show) {
  running?.abort();
  return attempt($("problem"), async () => {
    const items = readItems(file.name, await file.arrayBuffer());
    if (items.length === 1 && items[0].text?.length <= SHORT) return show(items[0].text);
    return tagFile(file.name, items);
  });
}

async function tagFile(name, items) {
  const mine = (running = new AbortController());
  const results = [];
  $("file").hidden = false;
  $("file-title").textContent = name;
  $("file-names").replaceChildren();
  $("file-stop").hidden = false;
  $("file-progress").max = items.length;
  $("file").scrollIntoView({ block: "nearest" });
  const began = performance.now();
  const failure = await attempt($("file-problem"), async () => {
    for (const batch of batches(items)) {
      showProgress(results.length, items.length, began);
      const given = batch[0].words ? { words: batch.map((one) => one.words) } : { texts: batch.map((one) => one.text) };
      const asked = { ...given, ...(neighbours() && { neighbours: neighbours() }) };
      const answer = await call("POST", "v1/entities", asked, mine.signal);
      results.push(...answer.results.map((result, i) => ({ ...result, words: batch[i].words })));
    }
  });
  if (running !== mine) return; // another file took its place
  $("file-stop").hidden = true;
  const took = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  const done = `${count(results.length, "text")} of ${items.length.toLocaleString("en")} tagged in ${took}.`;
  $("file-said").textContent = failure ? `Stopped: ${done}` : done;
  $("file-progress").value = results.length;
  showNames(results.map((result) => ({ ...result, entities: wanted(result.entities) })));
}

/** Items in groups for one request: few, not much text, all of one kind. */
function* batches(items) {
  let batch = [];
  let size = 0;
  for (const item of items) {
    const length = item.text?.length ?? item.words.join(" ").length;
    const full = batch.length === ITEMS || size + length > CHARACTERS;
    if (batch.length && (full || !batch[0].words !== !item.words)) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(item);
    size += length;
  }
  if (batch.length) yield batch;
}

function showProgress(done, all, began) {
  const seconds = Math.ceil((((performance.now() - began) / 1000) * (all - done)) / done);
  const left = done ? `, about ${seconds} s left` : "";
  $("file-progress").value = done;
  $("file-said").textContent = `${done.toLocaleString("en")} of ${count(all, "text")}${left}`;
}

/** The names that were found, the commonest first, and the answers as files. */
function showNames(results) {
  const names = new Map();
  for (const { text, label, score } of results.flatMap((result) => result.entities)) {
    const key = JSON.stringify([text, label]);
    const known = names.get(key) ?? { text, label, times: 0, scores: 0 };
    names.set(key, { ...known, times: known.times + 1, scores: known.scores + score });
  }
  const saves = [
    button("Download JSONL", () => download("entities.jsonl", asJsonLines(results))),
    button("Download CoNLL", () => download("entities.conll", asColumns(results))),
  ];
  $("file-saves").replaceChildren(...(results.length ? saves : []));
  if (!names.size) return;
  const row = ({ text, label, times, scores }) => {
    const kind = coloured(el("span", { className: "tag" }, typeName(label)), label);
    const cells = [el("bdi", {}, text), kind, String(times), percent(scores / times)];
    return el("tr", {}, ...cells.map((cell) => el("td", {}, cell)));
  };
  const titles = ["Name", "Kind", "Times", "Mean score"].map((title) => el("th", { scope: "col" }, title));
  const sorted = [...names.values()].sort((a, b) => b.times - a.times);
  paged($("file-names"), sorted, ROWS, (some) => {
    const head = el("thead", {}, el("tr", {}, ...titles));
    return el("div", { className: "wide" }, el("table", {}, head, el("tbody", {}, ...some.map(row))));
  });
}

$("file-stop").onclick = () => running?.abort();
