/** What can be taken away: the answer as JSON, files, code that asks for it, a link that asks again. */

import { $, download, el, tell } from "./elements.js";
import { asColumns, asJsonLines } from "./formats.js";
import { asRequest, wanted } from "./options.js";
import { state } from "./state.js";

const LONGEST = 8000; // characters of a link that browsers and programs for mail pass on

/** The answer with the entities that are shown. */
const shown = () => ({ ...state.result, entities: wanted(state.result.entities) });

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    tell(`${what} copied.`);
  } catch {
    showCode(text); // without HTTPS browsers let no page copy, save on this machine
  }
}

function asJson() {
  const { text, entities, plain, support, windows, adapted } = shown();
  return JSON.stringify({ text, entities, windows, adapted, support, plain }, null, 2);
}

const address = () => new URL(".", document.baseURI).href;

function asCurl() {
  const body = JSON.stringify({ text: state.result.text, ...asRequest() }).replaceAll("'", "'\\''");
  const token = state.token ? ` \\\n  -H "authorization: Bearer $METACROSS_TOKEN"` : "";
  return `curl -s ${address()}v1/entities \\\n  -H 'content-type: application/json'${token} \\\n  -d '${body}'\n`;
}

function asPython() {
  const options = Object.entries(asRequest()).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
  const token = state.token ? `, token=os.environ["METACROSS_TOKEN"]` : "";
  const lines = [
    ...(token ? ["import os", ""] : []),
    "from metacross import Client",
    "",
    `with Client(${JSON.stringify(address())}${token}) as client:`,
    `    result = client.tag(${JSON.stringify(state.result.text)}${options})`,
    "    for entity in result.entities:",
    "        print(entity.label, entity.text, entity.score)",
  ];
  return `${lines.join("\n")}\n`;
}

/** A link to this page with the text and the options behind #, which browsers send to nobody. */
function link() {
  const asked = { text: state.result.text, ...asRequest() };
  const parameters = Object.entries(asked).map(([name, value]) => [name, Array.isArray(value) ? value.join() : value]);
  return `${address()}#${new URLSearchParams(parameters)}`;
}

/** What a link holds: { text, threshold, labels, neighbours }; null where the address has no text. */
export function fromLink() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!asked.get("text")) return null;
  return {
    text: asked.get("text"),
    threshold: Number(asked.get("threshold")) || 0,
    labels: asked.get("labels")?.split(",") ?? null,
    neighbours: Number(asked.get("neighbours")) || null,
  };
}

function showCode(text) {
  $("code").replaceChildren(el("code", {}, text));
  $("code-dialog").showModal();
}

$("copy-json").onclick = () => copy(asJson(), "JSON");
$("copy-link").onclick = () => {
  if (link().length <= LONGEST) copy(link(), "Link");
  else tell("The text is too long for a link. Send it as a file.");
};
$("save-jsonl").onclick = () => download("entities.jsonl", asJsonLines([shown()]));
$("save-conll").onclick = () => download("entities.conll", asColumns([shown()]));
$("as-curl").onclick = () => showCode(asCurl());
$("as-python").onclick = () => showCode(asPython());
$("copy-code").onclick = () => {
  getSelection().selectAllChildren($("code")); // so that Ctrl+C copies where the button may not
  navigator.clipboard?.writeText($("code").textContent).then(() => $("code-dialog").close(), () => {});
};
$("close-code").onclick = () => $("code-dialog").close();
