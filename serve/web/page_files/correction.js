/** An entity's window: what it is, how sure that is, what moved it, and one click to correct it. */

import { markedEntity } from "./answer.js";
import { $, button, el } from "./elements.js";
import { changeInWords, influencesOn, overlap } from "./influence.js";
import { openEditor } from "./editor.js";
import { guessLanguage } from "./languages.js";
import { attempt } from "./service.js";
import { mayTeach, state } from "./state.js";
import { keep } from "./teaching.js";
import { coloured, isolated, percent, typeName } from "./text.js";

const SHOWN = 5; // sentences that moved it

/** The sentence of the answer that an entity stands in, as an example: its text, and its entities. */
export function sentenceAround(entity) {
  const { text, entities, language, support = [] } = state.result;
  const chars = Array.from(text);
  const whole = { start: 0, end: chars.length };
  const inside = (one) => !one.voted && one.start <= entity.start && entity.end <= one.end;
  const { start, end } = support.find(inside) ?? whole;
  const own = entities.filter((one) => start <= one.start && one.end <= end);
  const moved = own.map((one) => ({ ...one, start: one.start - start, end: one.end - start }));
  const sentence = chars.slice(start, end).join("");
  return { text: sentence, entities: moved, language, start };
}

/** Keeps the sentence of an entity as an example in which the entity has this label, or none (null). */
export function correct(entity, label) {
  const { start, ...sentence } = sentenceAround(entity);
  const language = sentence.language || guessLanguage(sentence.text);
  const moved = { start: entity.start - start, end: entity.end - start, label };
  const others = sentence.entities.filter((one) => !overlap(one, moved));
  const entities = [...others, ...(label ? [moved] : [])].sort((a, b) => a.start - b.start);
  return keep({ ...sentence, entities, language });
}

/** Opens the window at a mark of the answer. */
export function openCorrection(mark) {
  const entity = markedEntity(mark);
  const box = $("correction");
  const title = `${isolated(entity.text)}: ${typeName(entity.label)}`;
  const score = el("p", { className: "quiet" }, `Score ${percent(entity.score)}. `);
  score.append(el("a", { href: "#score-meaning", onclick: () => ($("score-meaning").open = true) }, "What that means"));
  box.ariaLabel = title;
  box.replaceChildren(el("h3", {}, title), score, ...(mayTeach() ? choices(entity) : []), ...whatMoved(entity));
  box.showPopover();
  place(box, mark.getBoundingClientRect());
  (box.querySelector("button") ?? box).focus();
}

function choices(entity) {
  const problem = el("div", { role: "alert" });
  const choose = (label) => async () => {
    if (await attempt(problem, () => correct(entity, label))) return;
    $("correction").hidePopover();
    markAt(entity)?.focus();
  };
  const types = state.labels.map((label) => {
    const ariaPressed = String(label === entity.label);
    return coloured(button(typeName(label), choose(label), { ariaPressed }), label);
  });
  const bounds = button("Other words …", () => {
    $("correction").hidePopover();
    openEditor(sentenceAround(entity));
  });
  const row = el("div", { className: "row palette" }, ...types, button("no name", choose(null)), bounds);
  const asked = "What is it? Your answer is kept as an example, and counts at once.";
  return [el("p", {}, asked), row, problem];
}

const markAt = (entity) =>
  [...$("after").querySelectorAll("mark")].find((mark) => overlap(markedEntity(mark), entity)) ?? $("correct");

function whatMoved(entity) {
  const found = influencesOn(entity, state.result.support ?? []).slice(0, SHOWN);
  if (!found.length) return [];
  const line = ({ support, influence }) => {
    const chars = Array.from(support.text);
    const words = influence?.words.slice(0, 3).map(({ start, end }) => isolated(chars.slice(start, end).join("")));
    const how = influence ? `${changeInWords(influence.change)}, by ${words.join(", ")}` : "its words voted";
    const shown = chars.length > 80 ? `${chars.slice(0, 80).join("")} …` : support.text;
    return el("li", {}, el("b", {}, how), ": ", el("bdi", {}, shown));
  };
  return [el("p", { className: "quiet" }, "What moved it"), el("ol", { className: "moved" }, ...found.map(line))];
}

/** Puts the window below what it belongs to, or above where there is no room, inside the browser's window. */
function place(box, at) {
  const margin = 8;
  const left = Math.max(margin, Math.min(at.left, innerWidth - box.offsetWidth - margin));
  const below = at.bottom + margin;
  const above = Math.max(margin, at.top - box.offsetHeight - margin);
  box.style.left = `${left}px`;
  box.style.top = `${below + box.offsetHeight > innerHeight ? above : below}px`;
}
