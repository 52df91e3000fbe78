/** The point of it all, on samples with a lesson: one corrected sentence changes the answer to the next. */

import { $, button, el } from "./elements.js";
import { SAMPLES } from "./samples.js";
import { attempt } from "./service.js";
import { mayTeach, state } from "./state.js";
import { deleteButton } from "./support.js";
import { keep } from "./teaching.js";
import { isolated, typeName } from "./text.js";

/** Shows what to do next with the text that is shown; `go` loads a text and tags it. */
export function showLesson(go) {
  const { text, support = [] } = state.result;
  const sample = SAMPLES.find((one) => one.lesson && [one.text, one.lesson.next].includes(text));
  const useful = sample && mayTeach() && state.labels.includes(sample.lesson.label);
  $("lesson").hidden = !useful;
  if (!useful) return;
  const { words, label, next, says } = sample.lesson;
  const example = support.find((one) => one.example != null && one.text === sample.text)?.example;
  const forget = example === undefined ? [] : deleteButton(example, "Forget");
  if (text === next)
    step("Nobody labelled this sentence. ", "What differs from the answer without adaptation comes from your example.", [
      button("Back to the first sentence", () => go(sample.text, sample.lang)),
      ...forget,
    ]);
  else if (state.result.entities.some((one) => one.text === words && one.label === label))
    step("It has learnt that. ", "Does it know more than this one sentence?", [
      button("Try a sentence that nobody labelled", () => go(next, sample.lang), { className: "main" }),
      ...forget,
    ]);
  else {
    const name = `Make ${isolated(words)}: ${typeName(label)}`;
    const teach = button(name, () => attempt($("problem"), () => keep(corrected(sample))), { className: "main" });
    step("Teach it. ", `${says} Select the name and choose, or:`, [teach]);
  }
}

function step(title, words, buttons) {
  const row = el("div", { className: "row" }, ...buttons);
  $("lesson").replaceChildren(el("p", {}, el("strong", {}, title), words), row);
}

/** The answer to a sample with its lesson's entity, as an example. */
function corrected({ text, lang, lesson: { words, label } }) {
  const start = Array.from(text.slice(0, text.indexOf(words))).length;
  const right = { start, end: start + Array.from(words).length, label };
  const others = state.result.entities.filter((one) => one.end <= right.start || right.end <= one.start);
  const entities = [...others, right].sort((a, b) => a.start - b.start);
  return { text, entities, language: lang };
}
