/** The page's start: what is typed, picked, opened or linked to is tagged; the modules show the rest. */

import { showAge, showResult, showView, stepThroughEntities } from "./answer.js";
import { openCorrection } from "./correction.js";
import { openEditor } from "./editor.js";
import { $, el } from "./elements.js";
import { openFile } from "./files.js";
import { pointAway } from "./influence.js";
import { listExamples } from "./examples.js";
import { showLesson } from "./lesson.js";
import { showModel } from "./model.js";
import * as options from "./options.js";
import { SAMPLES } from "./samples.js";
import { attempt } from "./service.js";
import { fromLink } from "./share.js";
import { mayTeach, state } from "./state.js";
import { refresh, tag } from "./tagging.js";

const DELAY = 400; // ms from a pick to its request: whoever looks through samples or options asks for one answer

let soon = 0; // timer of a pick

/** Marks the sample that was picked; null: the text is the user's own. */
function setSample(chosen) {
  clearTimeout(soon);
  for (const sample of $("samples").children) sample.ariaPressed = String(sample === chosen);
  $("text").lang = chosen?.lang ?? "";
}

function write(text, lang = "") {
  setSample([...$("samples").children].find((sample) => sample.lang === lang && sample.title === text) ?? null);
  $("text").value = text;
  $("text").lang = lang;
  showAge();
}

const tagWritten = () => {
  clearTimeout(soon);
  return tag($("text").value, { language: $("text").lang });
};

function go(text, lang) {
  write(text, lang);
  return tagWritten();
}

for (const { lang, name, text } of SAMPLES) {
  const sample = el("button", { type: "button", lang, title: text, ariaPressed: "false" }, name);
  sample.onclick = () => {
    write(text, lang);
    soon = setTimeout(tagWritten, DELAY);
  };
  $("samples").append(sample);
}

// The field
$("text").oninput = () => {
  setSample(null);
  showAge();
};
$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  tagWritten();
};
$("tag").onclick = tagWritten;
$("again").onclick = tagWritten;

// The answer
$("view").onchange = showView;
$("scores").onchange = () => document.body.classList.toggle("scores", $("scores").checked);
$("correct").onclick = () => openEditor(state.result);
$("after").onclick = ({ target }) => {
  const mark = target.closest("mark");
  if (mark) openCorrection(mark);
};
$("after").onkeydown = (event) => {
  if (event.target.matches("mark") && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    openCorrection(event.target);
  } else stepThroughEntities(event);
};
$("correction").ontoggle = ({ newState }) => newState === "closed" && pointAway();
document.addEventListener("answer", () => {
  $("correct").hidden = !mayTeach();
  showLesson(go);
});

// Options
$("options").oninput = () => {
  options.say();
  clearTimeout(soon);
  if (state.result) showResult();
};
$("neighbours").onchange = () => refresh("With another number of sentences, the tagger");
$("options-reset").onclick = () => {
  options.set({});
  refresh("With the usual settings, the tagger");
};

// Files
const opened = (text) => go(text);
$("open").onclick = () => $("open-file").click();
$("open-file").onchange = () => {
  const [file] = $("open-file").files;
  if (file) openFile(file, opened);
  $("open-file").value = ""; // the same file may be chosen again
};
const overPage = (over) => (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.toggle("dropping", over);
};
addEventListener("dragover", overPage(true));
addEventListener("dragleave", overPage(false));
addEventListener("drop", (event) => {
  overPage(false)(event);
  const [file] = event.dataTransfer?.files ?? [];
  if (file) openFile(file, opened);
});

// Connection
const showConnection = () => {
  const notice = el("p", { className: "notice" }, el("strong", {}, "You are offline."), " What is shown stays.");
  $("offline").replaceChildren(...(navigator.onLine ? [] : [notice]));
};
addEventListener("online", showConnection);
addEventListener("offline", showConnection);

/** Shows what the service is, then the text that the address has, or else the first sample. */
async function start() {
  const failure = await attempt($("problem"), showModel);
  if (failure) return;
  const asked = fromLink();
  if (asked) options.set(asked);
  const { text, lang } = asked ?? SAMPLES[0];
  await Promise.all([go(text, lang), listExamples()]);
}

document.addEventListener("examples", () => attempt($("examples-problem"), showModel));
addEventListener("hashchange", start);
start();
