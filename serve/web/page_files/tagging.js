/** Tagging a text: the newest request wins, and its answer is shown. */

import { showAge, showResult } from "./answer.js";
import { compare, inWords } from "./difference.js";
import { $, count, say } from "./elements.js";
import { neighbours, wanted } from "./options.js";
import { attempt, call } from "./service.js";
import { state } from "./state.js";

let running = null; // AbortController of the request under way: a newer one takes its place

/** Tags a text and shows the answer; `who` is named as what made it differ from the last answer to the same text. */
export async function tag(text, { language = "", who = "" } = {}) {
  running?.abort();
  const mine = (running = new AbortController());
  $("text").ariaInvalid = $("ask").ariaBusy = "false";
  if (!text.trim()) {
    say("There is no text yet. Write one or pick a sample.");
    return $("text").focus();
  }
  say("Tagging …");
  $("ask").ariaBusy = "true";
  const began = performance.now();
  const failure = await attempt($("problem"), async () => {
    const asked = { text, explain: true, ...(neighbours() && { neighbours: neighbours() }) };
    const answer = await call("POST", "v1/entities", asked, mine.signal);
    const last = state.result;
    state.result = { ...answer.results[0], language };
    const known = who && last?.text === text;
    showResult(known ? inWords(who, compare(wanted(last.entities), wanted(state.result.entities))) : "");
    showAge();
  });
  if (running !== mine) return;
  $("text").ariaInvalid = String(failure?.status === 422);
  $("ask").ariaBusy = "false";
  const parts = state.result?.windows > 1 ? `, ${count(state.result.windows, "part")}` : "";
  say(failure ? "" : `Answered in ${Math.round(performance.now() - began).toLocaleString("en")} ms${parts}`);
}

/** Tags the text that is shown once more, and tells what `who` changed. */
export async function refresh(who) {
  if (state.result) await tag(state.result.text, { language: state.result.language, who });
}
