/** Changes of the service's examples; each is followed by a new answer, which shows what it changed. */

import { $, button, tell } from "./elements.js";
import { attempt, call } from "./service.js";
import { refresh } from "./tagging.js";

const bare = ({ text, entities, language }) => ({
  text,
  language,
  entities: entities.map(({ start, end, label }) => ({ start, end, label })),
});

/** Stores an example and shows what that changed; gives the example as it is stored. */
export async function keep(example) {
  const { examples } = await call("POST", "v1/examples", { examples: [bare(example)] });
  const [kept] = examples;
  if (kept.outcome === "unchanged") tell(`This was known: it is example ${kept.id}.`);
  else if (kept.outcome === "replaced") tell(`Example ${kept.id} has these labels now.`, ...undoing(kept.before, kept));
  else tell(`Kept as example ${kept.id}.`, button("Undo", () => remove(kept.id)));
  await changed("With the new example, the tagger");
  return kept;
}

/** Gives a stored example another text, other labels or another language. */
export async function replace(id, example) {
  await put(await call("GET", `v1/examples/${id}`), { ...example, id });
}

async function put(before, after) {
  await call("PUT", `v1/examples/${after.id}`, bare(after));
  tell(`Example ${after.id} is changed.`, ...undoing(before, after));
  await changed("With the changed example, the tagger");
}

/** The button that takes a change of an example back. A machine's labels have none: they would become a person's. */
function undoing(before, after) {
  const undo = () => attempt($("examples-problem"), () => put(after, before));
  return before.confidence === undefined ? [button("Undo", undo)] : [];
}

/** Deletes an example; people's can be brought back. */
export function remove(id) {
  return attempt($("examples-problem"), async () => {
    const example = await call("GET", `v1/examples/${id}`); // to be able to undo it
    await call("DELETE", `v1/examples/${id}`);
    const byPeople = example.confidence === undefined; // undone, a machine's labels would become a person's
    const undo = button("Undo", () => attempt($("examples-problem"), () => keep(example)));
    tell(`Example ${id} is deleted.`, ...(byPeople ? [undo] : []));
    $("news").querySelector("button").focus(); // the button that was pressed is gone
    await changed("Without the deleted example, the tagger");
  });
}

/** Tags anew what is shown; the list of examples and the facts about the model hear of it. */
export async function changed(who) {
  await refresh(who);
  document.dispatchEvent(new Event("examples"));
}

document.addEventListener("click", (event) => {
  const { delete: id } = event.target.closest("button")?.dataset ?? {};
  if (id) remove(id);
});
