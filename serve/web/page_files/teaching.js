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
  const told = {
    replaced: `Example ${kept.id} has these labels now.`,
    unchanged: `This was known: it is example ${kept.id}.`,
  };
  const undo = button("Undo", () => remove(kept.id));
  tell(told[kept.outcome] ?? `Kept as example ${kept.id}.`, ...(kept.outcome in told ? [] : [undo]));
  await changed("With the new example, the tagger");
  return kept;
}

/** Gives a stored example another text, other labels or another language. */
export async function replace(id, example) {
  const before = await call("GET", `v1/examples/${id}`); // to be able to undo it
  await call("PUT", `v1/examples/${id}`, bare(example));
  // Undone, a machine's labels would become a person's.
  const undo = before.confidence === undefined ? [button("Undo", () => replaceOrTell(id, before))] : [];
  tell(`Example ${id} is changed.`, ...undo);
  await changed("With the changed example, the tagger");
}

const replaceOrTell = (id, example) => attempt($("examples-problem"), () => replace(id, example));

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
