/** What answers come from, in words: which model, learnt from what, how good, in which languages. */

import { $, count, el } from "./elements.js";
import { languageName } from "./languages.js";
import { offerLabels } from "./examples.js";
import { offer } from "./options.js";
import { call } from "./service.js";
import { state } from "./state.js";
import { coloured, typeName } from "./text.js";

const ENCODERS = { embedded: "multilingual-e5-small" };

/** Asks what the service is and what the token allows, and shows it. */
export async function showModel() {
  const access = await call("GET", "page/access");
  state.may = new Set(access.may);
  state.keepsExamples = access.keeps_examples;
  const model = (state.model = await call("GET", "v1/model"));
  state.labels = [...model.labels];
  offer(model);
  offerLabels(model.labels);
  const facts = [
    ["Finds", ...model.labels.map((label) => coloured(el("span", { className: "tag", title: label }, typeName(label)), label))],
    ["Learnt from", learntFrom(model)],
    ["How good", howGood(model)],
    ["Languages", languages(model)],
    ["Adapts", adapts(model)],
    ["Model", `${model.bundle.slice(0, 12)}, encoder ${ENCODERS[model.encoder] ?? model.encoder}`],
  ];
  const values = (those) => el("dd", {}, ...those);
  $("facts").replaceChildren(...facts.map(([name, ...those]) => el("div", {}, el("dt", {}, name), values(those))));
}

function learntFrom({ source_sentences, source_language, examples, machine_examples }) {
  const own = [
    ...(examples ? [`${count(examples, "example")} of this service’s users`] : []),
    ...(machine_examples ? [`${count(machine_examples, "sentence")} that a machine labelled`] : []),
  ];
  const source = count(source_sentences, `labelled ${languageName(source_language)} sentence`);
  return [source, ...own].join(" + ");
}

const howGood = ({ dev_f1, source_language }) =>
  dev_f1 === null
    ? "not measured"
    : `F1 ${dev_f1.toFixed(1)} % on ${languageName(source_language)} text kept apart in training; less in other languages`;

function languages({ source_language, adopted }) {
  const labelled = adopted.map(({ language, examples, kept }) =>
    `${languageName(language)} (${examples ? count(examples, "labelled example") : `${count(kept, "sentence")} labelled by machine`})`);
  const learnt = [languageName(source_language), ...labelled].join(", ");
  return `${learnt}; all others that its encoder knows, unseen`;
}

const adapts = ({ method, neighbours }) =>
  `to each sentence, by the ${count(neighbours, "labelled sentence")} most like it` +
  (method === "base" ? " (its training did not prepare it for that)" : "");
