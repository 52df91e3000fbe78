/** The service's examples: found, changed, deleted, brought in from a file and taken out as one. */

import { $, button, count, download, el, tell } from "./elements.js";
import { openEditor } from "./editor.js";
import { fillLanguages, languageName } from "./languages.js";
import { attempt, call } from "./service.js";
import { mayTeach, state } from "./state.js";
import { deleteButton, machineNote } from "./support.js";
import { changed } from "./teaching.js";
import { markedText, typeName } from "./text.js";

const PAGE = 5; // examples shown at once
const pages = [null]; // the ids that the pages shown so far begin behind

fillLanguages($("import-language"), "language not said");
fillLanguages($("find-language"), "any language");

/** Lists the examples that are searched for, a page of them; the newest first. */
export function listExamples() {
  const shown = state.keepsExamples && state.may.has("read_examples");
  $("examples-section").hidden = !shown;
  if (!shown) return null;
  $("import-form").hidden = !mayTeach();
  return attempt($("examples-problem"), async () => {
    const after = pages.at(-1);
    const paging = { order: "newest", limit: PAGE, ...(after !== null && { after }) };
    const page = await call("GET", `v1/examples?${new URLSearchParams({ ...filters(), ...paging })}`);
    if (!page.examples.length && pages.length > 1) return pages.pop(), listExamples(); // its last one was deleted
    const searching = Object.keys(filters()).length > 0;
    const none = searching ? "None is like that." : "None yet. Select a name in an answer and say what it is.";
    const items = page.examples.length ? page.examples.map(storedItem) : [el("li", {}, none)];
    $("examples").replaceChildren(...items);
    $("examples-count").textContent = page.total ? count(page.total, "example") : "";
    $("pager").hidden = pages.length === 1 && page.next === null;
    $("previous").disabled = pages.length === 1;
    $("next").disabled = page.next === null;
    $("next").onclick = () => (pages.push(page.next), listExamples());
  });
}

/** What is searched for, as the service's filters. */
function filters() {
  const wanted = {
    text: $("find").value.trim(),
    label: $("find-label").value,
    language: $("find-language").value,
    by: $("find-by").value,
  };
  return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value));
}

function storedItem(example) {
  const { id, text, entities, language, created, confidence, labelled_by, uses } = example;
  const facts = [`#${id}`, language && languageName(language), new Date(created).toLocaleDateString()];
  if (uses) facts.push(`shaped ${count(uses, "answer")}`);
  const edit = button("Edit", () => openEditor(example), { ariaLabel: `Edit example ${id}` });
  const end = el("span", { className: "row push" }, ...(mayTeach() ? [edit] : []), ...deleteButton(id));
  const foot = el("div", { className: "row quiet" }, facts.filter(Boolean).join(" · "));
  foot.append(...machineNote(confidence, labelled_by), end);
  return el("li", { className: "stored" }, markedText(text, entities, { lang: language }), foot);
}

/** Offers the model's types to search for. */
export function offerLabels(labels) {
  const chosen = $("find-label").value;
  const options = labels.map((label) => new Option(typeName(label), label));
  $("find-label").replaceChildren(new Option("any kind of name", ""), ...options);
  $("find-label").value = labels.includes(chosen) ? chosen : "";
}

async function importFile(file) {
  const where = `v1/examples:import?language=${encodeURIComponent($("import-language").value)}`;
  const answer = await call("POST", where, new Blob([file], { type: "text/plain" }));
  const parts = ["added", "replaced", "unchanged"].filter((key) => answer[key]).map((key) => `${answer[key]} ${key}`);
  tell(`${file.name}: ${parts.join(", ") || count(answer.examples.length, "example")}.`);
  const lines = (answer.oddities ?? []).map((line) => el("li", {}, line));
  $("oddities").replaceChildren(...lines);
  await changed("With the new examples, the tagger");
}

async function exportFile() {
  const format = $("export-format").value;
  const file = await call("GET", `v1/examples:export?${new URLSearchParams({ ...filters(), format })}`);
  download(`examples.${$("export-format").selectedOptions[0].dataset.ending}`, file);
}

let soon = 0; // timer: a search begins when the typing pauses
const search = () => {
  pages.length = 1;
  clearTimeout(soon);
  soon = setTimeout(listExamples, 250); // ms
};
for (const id of ["find", "find-label", "find-language", "find-by"]) $(id).oninput = search;
$("find-form").onsubmit = (event) => event.preventDefault();
$("previous").onclick = () => (pages.pop(), listExamples());
$("import").onclick = () => $("import-file").click();
$("import-file").onchange = async () => {
  const [file] = $("import-file").files;
  if (file) await attempt($("examples-problem"), () => importFile(file));
  $("import-file").value = ""; // the same file may be chosen again
};
$("export").onclick = () => attempt($("examples-problem"), exportFile);
document.addEventListener("examples", listExamples);
