/** The labelled sentences that shaped an answer: each once, with what it shaped and what it changed. */

import { $, bar, button, count, el, paged, unseen } from "./elements.js";
import { changeInWords, overlap } from "./influence.js";
import { languageName } from "./languages.js";
import { mayTeach } from "./state.js";
import { excerpt, isolated, markedText } from "./text.js";

const PAGE = 6; // sentences shown at once
const SHOWN = 4; // stretches and entities that are named for each

/** Shows the sentences; `shown` is called with those on the page: [{ node, paragraph, supports }]. */
export function showSupport(text, support, entities, shown) {
  const groups = new Map();
  for (const one of support) {
    const key = JSON.stringify([one.example, one.place, one.text]);
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  const sentences = [...groups.values()].sort((a, b) => closest(b) - closest(a));
  if (!sentences.length) $("support").replaceChildren(el("p", {}, "None."));
  else
    paged($("support"), sentences, PAGE, (some) => {
      const items = some.map((supports) => item(text, supports, entities));
      shown(items);
      return el("ol", {}, ...items.map(({ node }) => node));
    });
  if (!sentences.length) shown([]);
}

const closest = (supports) => Math.max(...supports.map((one) => one.similarity));

function item(text, supports, entities) {
  const [first] = supports;
  const similarity = closest(supports);
  const number = el("span", { className: "near" }, similarity.toFixed(2));
  const near = el("div", {}, unseen("Similarity "), number, bar(0, Math.min(1, Math.max(0, similarity))));
  near.append(el("span", { className: "rank", ariaHidden: "true" }));
  const paragraph = markedText(first.text, first.entities, { lang: first.language ?? "" });
  const told = [shapedWords(text, supports), changedWords(supports, entities)].filter(Boolean);
  const facts = told.map((words) => el("p", { className: "quiet" }, words));
  const node = el("li", { className: "item" }, near, el("div", {}, paragraph, ...facts, foot(first)));
  return { node, paragraph, supports };
}

/** Which parts of the text a sentence shaped; nothing where that is the whole text. */
function shapedWords(text, supports) {
  const length = Array.from(text).length;
  const stretches = supports.filter((one) => !one.voted && (one.start > 0 || one.end < length));
  if (!stretches.length) return "";
  const shown = stretches.slice(0, SHOWN).map(({ start, end }) => `“${isolated(excerpt(text, start, end))}”`);
  const more = stretches.length > SHOWN ? ` and ${count(stretches.length - SHOWN, "other")}` : "";
  return `Shaped ${shown.join(", ")}${more}`;
}

/** What a sentence changed, strongest first, and on which entities its words voted. */
function changedWords(supports, entities) {
  const name = (stretch) => {
    const entity = entities.find((one) => overlap(one, stretch));
    return entity && isolated(entity.text);
  };
  const changes = supports.flatMap((one) => one.influences ?? []);
  changes.sort((a, b) => Math.abs(b.change) - Math.abs(a.change));
  const moved = changes.map((one) => [name(one), changeInWords(one.change)]).filter(([words]) => words);
  const voted = supports.filter((one) => one.voted).map(name).filter(Boolean);
  const parts = [];
  if (moved.length) parts.push(`Moved ${moved.slice(0, SHOWN).map((words) => words.join(" ")).join(", ")}`);
  if (voted.length) parts.push(`${parts.length ? "its" : "Its"} words voted on ${voted.slice(0, SHOWN).join(", ")}`);
  return parts.join("; ");
}

function foot({ example, place, confidence, language }) {
  const row = el("div", { className: "row quiet" });
  const machine = machineNote(confidence, language && languageName(language));
  const adopted = language && !machine.length ? [el("span", {}, `Labelled example, ${languageName(language)}`)] : [];
  if (example == null) row.append(el("code", {}, place), ...machine, ...adopted);
  else {
    const name = `${machine.length ? "Example" : "Your example"} ${example}`;
    row.append(el("span", { className: "badge" }, name), ...machine, ...deleteButton(example));
  }
  return row;
}

/** A button that deletes an example, where that is allowed; teaching.js hears it. */
export function deleteButton(id, words = "Delete") {
  const remove = button(words, null, { ariaLabel: `${words} example ${id}` });
  remove.dataset.delete = id;
  return mayTeach() ? [remove] : [];
}

/** What is said of a sentence that a machine labelled; nothing where people did (undefined). */
export const machineNote = (confidence, ...facts) =>
  confidence === undefined
    ? []
    : [el("span", {}, ["Labelled by machine", ...facts.filter(Boolean), `${confidence.toFixed(2)} sure`].join(", "))];
