/** What makes two answers to one text differ. */

import { count } from "./elements.js";
import { isolated, typeName } from "./text.js";

/** Differences of two answers: entities that are new, gone, or [was, now] where they overlap. */
export function compare(before, after) {
  const same = (a) => (b) => a.start === b.start && a.end === b.end && a.label === b.label;
  const gone = before.filter((a) => !after.some(same(a)));
  const fresh = after.filter((a) => !before.some(same(a)));
  const changed = [];
  for (const now of [...fresh]) {
    const was = gone.find((a) => a.start < now.end && now.start < a.end);
    if (!was) continue;
    changed.push([was, now]);
    gone.splice(gone.indexOf(was), 1);
    fresh.splice(fresh.indexOf(now), 1);
  }
  return { gone, fresh, changed };
}

export const isSame = ({ gone, fresh, changed }) => !gone.length && !fresh.length && !changed.length;

/** The differences in words; `who` made them. */
export function inWords(who, { gone, fresh, changed }) {
  const name = ({ text, label }) => `${isolated(text)} (${typeName(label)})`;
  const turn = ([was, now]) => `${name(was)} became ${now.text === was.text ? typeName(now.label) : name(now)}`;
  const some = (list) => list.slice(0, 5).join(", ") + (list.length > 5 ? ` and ${count(list.length - 5, "other", "others")}` : "");
  const entities = ({ length }) => count(length, "entity", "entities");
  const parts = [];
  if (fresh.length) parts.push(`found ${entities(fresh)} more: ${some(fresh.map(name))}`);
  if (gone.length) parts.push(`dropped ${entities(gone)}: ${some(gone.map(name))}`);
  if (changed.length) parts.push(`changed ${entities(changed)}: ${some(changed.map(turn))}`);
  return `${who} ${parts.join("; ") || "changed nothing"}.`;
}

/** For every entity that differs, its class and the words beside its label. */
export function notesOf({ gone, fresh, changed }) {
  const notes = new Map();
  for (const entity of fresh) notes.set(entity, ["fresh", "new"]);
  for (const entity of gone) notes.set(entity, ["gone", "dropped"]);
  for (const [was, now] of changed) {
    notes.set(was, ["gone", "changed"]);
    notes.set(now, ["fresh", was.label === now.label ? "new bounds" : `was ${typeName(was.label)}`]);
  }
  return notes;
}
