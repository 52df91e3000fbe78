/** The editor of an example: words are selected by mouse, finger or keyboard, and get a label. */

import { $, button, el } from "./elements.js";
import { chooseLanguage, fillLanguages, guessLanguage } from "./languages.js";
import { attempt } from "./service.js";
import { state } from "./state.js";
import { keep, replace } from "./teaching.js";
import { coloured, typeName, wordsOf } from "./text.js";

let draft = null; // { id, text, chars, words, entities, anchor, active }

fillLanguages($("language"), "not said");

/** Opens the editor on a text with its entities; with an id the example of that number is changed. */
export function openEditor({ id = null, text, entities, language }) {
  const words = wordsOf(text, entities);
  draft = { id, text, chars: Array.from(text), words, entities: [...entities], anchor: 0, active: 0 };
  const choices = state.labels.map((label, i) => {
    const choice = coloured(button(typeName(label), () => mark(label)), label);
    if (i < 9) choice.append(" ", el("kbd", { ariaHidden: "true" }, i + 1));
    return choice;
  });
  $("palette").replaceChildren(...choices, button("no name", () => mark(null)));
  $("editor-title").textContent = id === null ? "Add an example" : `Change example ${id}`;
  const guessed = language ? "" : guessLanguage(text);
  chooseLanguage($("language"), language || guessed);
  $("guessed").textContent = guessed ? "guessed from the text" : "";
  $("words").lang = language || guessed;
  $("editor-problem").replaceChildren();
  drawEditor();
  $("editor").showModal();
  $("words").focus();
}

/** Gives the selected words a label, or takes it from them (null). Entities that they touch make way. */
function mark(label) {
  const { words, chars, anchor, active, entities } = draft;
  const start = words[Math.min(anchor, active)].start;
  const end = words[Math.max(anchor, active)].end;
  draft.entities = entities.filter((entity) => entity.end <= start || end <= entity.start);
  if (label) draft.entities.push({ start, end, label });
  draft.entities.sort((a, b) => a.start - b.start);
  tapped = false;
  $("editor-said").textContent = `${chars.slice(start, end).join("")}: ${label ? typeName(label) : "no name"}`;
  drawEditor();
}

function drawEditor() {
  const { words, entities, chars } = draft;
  const nodes = [];
  let at = 0;
  let box = null; // of the entity that the word is in
  words.forEach((word, i) => {
    const entity = entities.find((one) => one.start <= word.start && word.end <= one.end);
    const gap = chars.slice(at, word.start).join("");
    const ariaLabel = entity ? `${word.text}, ${typeName(entity.label)}` : word.text;
    const option = el("span", { id: `word-${i}`, className: "word", role: "option", ariaLabel }, word.text);
    if (entity && entity.start < word.start) box.append(gap, option);
    else {
      box = entity ? coloured(el("span", { className: "entity", role: "none" }, option), entity.label) : null;
      nodes.push(gap, box ?? option);
    }
    if (entity?.end === word.end)
      box.append(el("span", { className: "tag", dir: "ltr", role: "none" }, typeName(entity.label)));
    at = word.end;
  });
  $("words").replaceChildren(...nodes);
  drawSelection();
}

function drawSelection() {
  const { anchor, active } = draft;
  const [first, last] = [Math.min(anchor, active), Math.max(anchor, active)];
  $("words").querySelectorAll(".word").forEach((word, i) => (word.ariaSelected = String(first <= i && i <= last)));
  $("words").setAttribute("aria-activedescendant", `word-${active}`);
}

/** Moves the end of the selection; its other end too, unless it is extended. */
function select(at, extend) {
  draft.active = Math.max(0, Math.min(draft.words.length - 1, at));
  if (!extend) draft.anchor = draft.active;
  drawSelection();
  $(`word-${draft.active}`).scrollIntoView({ block: "nearest" });
}

$("words").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { active, words } = draft;
  const right = getComputedStyle($("words")).direction === "rtl" ? -1 : 1;
  const far = words.length;
  const steps = { ArrowLeft: -right, ArrowRight: right, ArrowUp: -1, ArrowDown: 1, Home: -far, End: far };
  const label = state.labels[Number(event.key) - 1];
  if (event.key in steps) select(active + steps[event.key], event.shiftKey);
  else if (label) mark(label);
  else if (event.key === "Delete" || event.key === "Backspace") mark(null);
  else return;
  event.preventDefault();
});

// A mouse drags. A finger taps the first word, then the last; a tap after that begins anew.
let dragging = false;
let tapped = false; // the first word, and not yet the last
const wordAt = (event) => Number(/^word-(\d+)$/.exec(event.target.id)?.[1] ?? -1);
$("words").addEventListener("pointerdown", (event) => {
  const at = wordAt(event);
  if (at < 0) return;
  const touch = event.pointerType === "touch";
  const extend = event.shiftKey || (touch && tapped);
  dragging = !touch;
  tapped = touch && !extend;
  select(at, extend);
});
$("words").addEventListener("pointerover", (event) => dragging && wordAt(event) >= 0 && select(wordAt(event), true));
addEventListener("pointerup", () => (dragging = false));

$("language").onchange = () => ($("guessed").textContent = "");
$("cancel").onclick = () => $("editor").close();
$("editor-form").onsubmit = async (event) => {
  event.preventDefault();
  $("save").disabled = true;
  const { id, text, entities } = draft;
  const example = { text, entities, language: $("language").value };
  const failure = await attempt($("editor-problem"), () => (id === null ? keep(example) : replace(id, example)));
  $("save").disabled = false;
  if (!failure) $("editor").close();
};
