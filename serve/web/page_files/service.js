/** Requests to the service: problems in words, tokens asked for, one repetition where it is busy. */

import { $, el, say } from "./elements.js";
import { state } from "./state.js";

/** What went wrong: the service's problem object, or one in the same form. */
export class Problem extends Error {
  constructor(problem) {
    super(problem.detail);
    Object.assign(this, problem);
  }
}

/**
 * Sends a request; gives what the answer holds: JSON, or a Blob where it is a file.
 * Asks for a token on 401, waits and repeats once on 429 and 503; throws a Problem for other failures.
 * The body is sent as JSON, or as it is where it is a Blob.
 */
export async function call(method, path, body, signal) {
  for (let waited = false; ; ) {
    const token = state.token;
    const answer = await send(method, path, body, signal, token);
    if (answer.status === 204) return null;
    if (answer.ok) return answer.headers.get("content-disposition") ? answer.blob() : answer.json();
    const problem = await problemOf(answer);
    if (answer.status === 401 && (token !== state.token || (await askToken(token)))) continue;
    if (![429, 503].includes(answer.status) || waited) throw problem;
    waited = true;
    say(`The service is busy. Trying again in ${problem.wait} s.`);
    await pause(problem.wait * 1000, signal);
    say("Trying again …");
  }
}

async function send(method, path, body, signal, token) {
  const headers = { accept: "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const asItIs = body instanceof Blob;
  if (body) headers["content-type"] = asItIs ? body.type || "text/plain" : "application/json";
  const content = body && (asItIs ? body : JSON.stringify(body));
  try {
    return await fetch(path, { method, headers, body: content, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const offline = { title: "You are offline", detail: "Try again when there is a connection." };
    const silent = { title: "No answer", detail: "The service could not be reached. Is it running? Then try again." };
    throw new Problem(navigator.onLine ? silent : offline);
  }
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  return new Problem({
    title: `${answer.status} ${answer.statusText}`,
    detail: "The service gave no reason.",
    request_id: answer.headers.get("x-request-id"),
    ...told,
    status: answer.status,
    wait: Number(answer.headers.get("retry-after")) || 1, // seconds
  });
}

const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => reject(signal.reason));
  });

let asking = null; // the token question that is open, shared by all requests that wait for it

/** Opens the token field; resolves to whether a token was given. */
function askToken(refused) {
  asking ??= new Promise((resolve) => {
    $("token-why").textContent = refused
      ? "That was not the right word. Look for spaces or letters that are missing, and paste it again."
      : "Whoever runs this service has given its users an access token: a long word of letters and digits.";
    $("token").value = "";
    $("token-dialog").onclose = () => {
      asking = null;
      resolve($("token-dialog").returnValue === "given");
    };
    $("token-dialog").returnValue = "";
    $("token-dialog").showModal();
  });
  return asking;
}

$("token-cancel").onclick = () => $("token-dialog").close();
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  $("token-dialog").close("given");
};

/** Runs an action; if it fails, the box tells why. Resolves to the error, or null. */
export async function attempt(box, action) {
  box.replaceChildren();
  try {
    await action();
    return null;
  } catch (error) {
    if (error.name !== "AbortError") box.replaceChildren(problemNotice(error));
    return error;
  }
}

function problemNotice({ title = "The page failed", message, errors = [], status, wait, request_id }) {
  const lines = errors.map((error) => el("li", {}, el("code", {}, error.field), `: ${error.detail}`));
  const parts = [el("strong", {}, title), el("p", {}, message), el("ul", {}, ...lines)];
  const notice = el("div", { className: "notice" }, ...parts);
  if (status === 503 || status === 429) notice.append(el("p", {}, `The service asks for a wait of ${wait} s.`));
  if (request_id) notice.append(el("p", { className: "quiet" }, "Request ", el("code", {}, request_id)));
  return notice;
}
