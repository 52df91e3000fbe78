/** What the user wants to see: how many sentences to adapt to, which types of entities, from which score on. */

import { $, count, el } from "./elements.js";
import { coloured, percent, typeName } from "./text.js";

/** K as the user set it; null: as in training. */
export const neighbours = () => Number($("neighbours").value) || null;

export const threshold = () => Number($("threshold").value) / 100;

/** The types that are wanted; null: all. */
export function labels() {
  const boxes = [...$("labels").querySelectorAll("input")];
  return boxes.every((box) => box.checked) ? null : boxes.filter((box) => box.checked).map((box) => box.value);
}

/** The entities that are to be shown. The page asks for all: what it hides must not be missing from an example. */
export function wanted(entities) {
  const types = labels();
  return entities.filter(({ score, label }) => score >= threshold() && (!types || types.includes(label)));
}

/** The options as a request has them, without those that change nothing. */
export function asRequest() {
  const all = { threshold: threshold() || undefined, labels: labels() ?? undefined, neighbours: neighbours() ?? undefined };
  return JSON.parse(JSON.stringify(all)); // leaves out what is undefined
}

/** Offers the types that the model knows, and says what it does by default. */
export function offer(model) {
  const chosen = labels();
  const boxes = model.labels.map((label) => {
    const box = el("input", { type: "checkbox", value: label, checked: !chosen || chosen.includes(label) });
    return el("label", { className: "check" }, box, coloured(el("span", { className: "tag" }, typeName(label)), label));
  });
  $("labels").replaceChildren(el("legend", { className: "quiet" }, "Kinds of names"), ...boxes);
  $("neighbours").placeholder = model.neighbours;
}

/** Sets the options, as a link has them. */
export function set({ threshold: least, labels: types, neighbours: k }) {
  $("threshold").value = 100 * (least ?? 0);
  $("neighbours").value = k ?? "";
  for (const box of $("labels").querySelectorAll("input")) box.checked = !types || types.includes(box.value);
  say();
}

/** Says what is set, also where the options are closed. */
export function say() {
  $("threshold-said").textContent = percent(threshold());
  const types = labels();
  const parts = [
    ...(threshold() ? [`scores from ${percent(threshold())}`] : []),
    ...(types ? [types.map(typeName).join(", ") || "no names at all"] : []),
    ...(neighbours() ? [count(neighbours(), "sentence") + " to learn from"] : []),
  ];
  $("options-said").textContent = parts.length ? `: ${parts.join("; ")}` : "";
}
