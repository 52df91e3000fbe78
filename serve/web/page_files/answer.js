/** The answer: the text with its entities before and after adaptation, as a table too, and what shaped it. */

import { $, count, el, paged } from "./elements.js";
import { compare, inWords, isSame, notesOf } from "./difference.js";
import { pointable } from "./influence.js";
import { guessLanguage } from "./languages.js";
import { wanted } from "./options.js";
import { state } from "./state.js";
import { showSupport } from "./support.js";
import { coloured, markedText, percent, typeName } from "./text.js";

const ROWS = 25; // of the table, at once

const entityOf = new WeakMap(); // mark -> entity

/** The entity of a mark of the answer. */
export const markedEntity = (mark) => entityOf.get(mark);

/** Shows `state.result`; `news` is said before all else. */
export function showResult(news = "") {
  const { text, adapted, language, support = [] } = state.result;
  const entities = wanted(state.result.entities);
  const plain = wanted(state.result.plain ?? state.result.entities);
  const difference = compare(plain, entities);
  const marks = [];
  const seen = (node, entity) => {
    entityOf.set(node, entity);
    marks.push({ node, entity });
  };
  const looks = { notes: notesOf(difference), lang: language || guessLanguage(text), seen };
  showText($("before").lastElementChild, markedText(text, plain, looks));
  const after = markedText(text, entities, looks);
  showText($("after").lastElementChild, after);
  makeSteppable([...after.querySelectorAll("mark")]);
  const same = isSame(difference);
  $("panes").classList.toggle("same", same);
  $("after").firstElementChild.textContent = same ? "With and without adaptation" : "After adaptation";
  $("view").hidden = same;
  showView();
  const found = entities.length ? count(entities.length, "entity", "entities") : "No entity found";
  const why = adapted ? inWords("Adaptation", difference) : "Tagged without adaptation.";
  $("summary").textContent = `${news} ${found}. ${why}`.trim();
  $("tools").hidden = $("panes").hidden = $("more").hidden = false;
  showTable(entities, plain);
  showSupport(text, support, [...entities, ...difference.gone], (items) => pointable(marks, items));
  document.dispatchEvent(new Event("answer"));
}

/** Puts a text into its box; where it is longer than the box, the keyboard can scroll it. */
function showText(box, paragraph) {
  box.replaceChildren(paragraph);
  box.tabIndex = -1;
  requestAnimationFrame(() => (box.tabIndex = box.scrollHeight > box.clientHeight ? 0 : -1));
}

/** Makes entities buttons, of which Tab reaches one and the arrow keys the others. */
function makeSteppable(marks) {
  marks.forEach((mark, i) => {
    mark.role = "button";
    mark.tabIndex = i ? -1 : 0;
    mark.ariaHasPopup = "dialog";
  });
}

export function stepThroughEntities(event) {
  const marks = [...$("after").querySelectorAll("mark")];
  const at = marks.indexOf(document.activeElement);
  if (at < 0) return;
  const right = getComputedStyle(marks[at]).direction === "rtl" ? -1 : 1;
  const steps = { ArrowRight: right, ArrowLeft: -right, ArrowDown: 1, ArrowUp: -1, Home: -at, End: marks.length };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const to = marks[Math.max(0, Math.min(marks.length - 1, at + steps[event.key]))];
  marks[at].tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

/** Shows the answer before adaptation, after it or both, as chosen; where nothing changed there is one pane. */
export function showView() {
  const view = $("panes").classList.contains("same") ? "after" : document.querySelector("#view :checked").value;
  $("before").hidden = view === "after";
  $("after").hidden = view === "before";
  $("panes").classList.toggle("both", view === "both");
}

function showTable(entities, plain) {
  const before = (entity) => plain.find((one) => one.start < entity.end && entity.start < one.end);
  const row = (entity) => {
    const was = before(entity);
    const kind = coloured(el("span", { className: "tag" }, typeName(entity.label)), entity.label);
    const cells = [el("bdi", {}, entity.text), kind, percent(entity.score), was ? typeName(was.label) : "not found"];
    return el("tr", {}, ...cells.map((cell) => el("td", {}, cell)), el("td", {}, `${entity.start}–${entity.end}`));
  };
  const names = ["Name", "Kind", "Score", "Without adaptation", "Characters"];
  const head = el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col" }, name))));
  $("table-title").textContent = `Table of ${count(entities.length, "entity", "entities")}`;
  if (!entities.length) $("table").replaceChildren(el("p", {}, "None."));
  else
    paged($("table"), entities, ROWS, (some) =>
      el("div", { className: "wide" }, el("table", {}, head.cloneNode(true), el("tbody", {}, ...some.map(row)))));
}

/** Marks the answer where the field holds another text by now. */
export function showAge() {
  const old = state.result !== null && $("text").value !== state.result.text && !state.result.fromFile;
  $("answer").classList.toggle("old", old);
  $("old").hidden = !old;
}
