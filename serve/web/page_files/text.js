/**
 * Texts with entities. Offsets are Unicode code points, as in the service's contract: strings are taken apart with
 * Array.from, which keeps surrogate pairs whole.
 */

import { el, unseen } from "./elements.js";
import { state } from "./state.js";

const NAMES = {
  PER: "person",
  LOC: "place",
  ORG: "organisation",
  MISC: "other name",
  GPE: "country or city",
  FAC: "building",
  NORP: "nationality or group",
  EVENT: "event",
  WORK_OF_ART: "work of art",
  PRODUCT: "product",
  LAW: "law",
  LANGUAGE: "language",
  DATE: "date",
  TIME: "time",
  MONEY: "money",
};
const UNSPACED = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Khmer}\p{sc=Lao}\p{sc=Myanmar}]/u;

/** A type of entities in words; one that the page does not know is named as the service names it. */
export const typeName = (label) => NAMES[label] ?? label;

/** Words or a text inside a sentence: isolated, because they may run from right to left. */
export const isolated = (text) => `\u2068${text}\u2069`;

export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

/** A stretch of a text, shortened in the middle where it is long. */
export function excerpt(text, start, end) {
  const part = Array.from(text).slice(start, end);
  return (part.length > 60 ? [...part.slice(0, 40), " … ", ...part.slice(-16)] : part).join("");
}

/** Gives an element its label's hue; a step of the golden angle keeps any number of hues apart. */
export function coloured(node, label) {
  if (!state.labels.includes(label)) state.labels.push(label);
  node.style.setProperty("--h", (150 + 137.5 * state.labels.indexOf(label)) % 360);
  return node;
}

/**
 * A text with its entities marked. `notes` has what became of an entity: [class, words]. `seen` is called with every
 * mark and its entity.
 */
export function markedText(text, entities, { notes = new Map(), lang = "", seen = () => {} } = {}) {
  const chars = Array.from(text);
  const paragraph = el("p", { className: "text", dir: "auto", lang });
  let at = 0;
  for (const entity of [...entities].sort((a, b) => a.start - b.start)) {
    if (entity.start < at) continue; // overlaps the one before
    const words = chars.slice(entity.start, entity.end).join("");
    const mark = entityMark(entity, words, notes.get(entity));
    paragraph.append(chars.slice(at, entity.start).join(""), mark);
    seen(mark, entity);
    at = entity.end;
  }
  paragraph.append(chars.slice(at).join(""));
  return paragraph;
}

function entityMark({ label, score }, words, note) {
  const tag = el("span", { className: "tag", dir: "ltr" }, unseen(" ("), typeName(label));
  const mark = coloured(el("mark", { className: "entity" }, words, tag), label);
  if (score !== undefined) {
    tag.append(unseen(`, score ${percent(score)}`));
    tag.append(el("span", { className: "note score", ariaHidden: "true" }, percent(score)));
  }
  if (note) {
    mark.classList.add(note[0]);
    tag.append(el("span", { className: "note" }, note[1]));
  }
  tag.append(unseen(")"));
  return mark;
}

/** The range of a stretch of a marked text; the words of tags do not count. */
export function rangeOf(paragraph, start, end) {
  const walker = document.createTreeWalker(paragraph, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement.closest(".tag") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  const range = new Range();
  let at = 0;
  while (walker.nextNode()) {
    const chars = Array.from(walker.currentNode.data);
    const unit = (offset) => chars.slice(0, offset - at).join("").length; // code points to UTF-16
    if (at <= start && start < at + chars.length) range.setStart(walker.currentNode, unit(start));
    if (at < end && end <= at + chars.length) range.setEnd(walker.currentNode, unit(end));
    at += chars.length;
  }
  return range;
}

const segments = (text, granularity) =>
  Array.from(new Intl.Segmenter(undefined, { granularity }).segment(text), (part) => part.segment);

/** The words and signs of a text with their offsets; single characters where a script puts no spaces. */
export function wordsOf(text, entities) {
  const borders = new Set([0, ...entities.flatMap((entity) => [entity.start, entity.end])]);
  let at = 0;
  for (const word of segments(text, "word"))
    for (const part of UNSPACED.test(word) ? segments(word, "grapheme") : [word])
      borders.add((at += Array.from(part).length));
  const chars = Array.from(text);
  const ends = [...borders].sort((a, b) => a - b);
  const words = ends.slice(1).map((end, i) => ({ start: ends[i], end, text: chars.slice(ends[i], end).join("") }));
  return words.filter((word) => word.text.trim());
}
