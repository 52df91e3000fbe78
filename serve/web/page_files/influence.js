/**
 * Pointing: at an entity, and the sentences and words that moved it light up; at a sentence, and what it moved does.
 * The service gives the influences, see metacross/tagging/influence.py. What is lit is also said in words.
 */

import { el } from "./elements.js";
import { rangeOf } from "./text.js";

const LEVELS = 3; // of strength, as the style has them: moved-up-1 to moved-up-3, moved-down-1 to moved-down-3

let marks = []; // of the answer: [{ node, entity }]
let items = []; // sentences that are shown: [{ node, paragraph, supports }]

export const overlap = (a, b) => a.start < b.end && b.start < a.end;

/** Sets what can be pointed at. */
export function pointable(newMarks, newItems) {
  marks = newMarks;
  items = newItems;
  for (const { node, entity } of marks) listen(node, () => pointAtEntity(entity));
  for (const { node, supports } of items) listen(node, () => pointAtSupport(supports));
}

function listen(node, point) {
  node.onpointerenter = node.onfocus = point;
  node.onpointerleave = node.onblur = pointAway;
}

/** A change of a log-probability in words: "+12 %" where the probability is so much higher, "×24" where it is far so. */
export function changeInWords(change) {
  const factor = Math.exp(Math.abs(change));
  if (factor >= 2) return `${change < 0 ? "÷" : "×"}${factor < 9.95 ? factor.toFixed(1) : factor.toFixed(0)}`;
  const size = Math.abs(Math.expm1(change) * 100);
  return `${change < 0 ? "−" : "+"}${size < 9.95 ? size.toFixed(1) : size.toFixed(0)}\u00a0%`;
}

/** What sentences did to an entity, the strongest influence first, then votes: [{ support, influence }]. */
export function influencesOn(entity, supports) {
  const found = supports.flatMap((support) => [
    ...(support.influences ?? []).filter((one) => overlap(one, entity)).map((influence) => ({ support, influence })),
    ...(support.voted && overlap(support, entity) ? [{ support, influence: null }] : []),
  ]);
  const strength = ({ influence }) => (influence ? Math.abs(influence.change) : 0);
  return found.sort((a, b) => strength(b) - strength(a));
}

function pointAtEntity(entity) {
  pointAway();
  const found = influencesOn(entity, items.flatMap((item) => item.supports));
  const ranked = [...new Set(found.map(({ support }) => items.find((item) => item.supports.includes(support))))];
  for (const item of items) item.node.classList.toggle("unlit", ranked.length > 0 && !ranked.includes(item));
  ranked.forEach((item, rank) => {
    const own = found.find(({ support }) => item.supports.includes(support));
    item.node.classList.add("lit");
    const words = own.influence ? changeInWords(own.influence.change) : "voted";
    item.node.querySelector(".rank").replaceChildren(el("b", {}, `${rank + 1}`), ` ${words}`);
  });
  lightWords(found.filter(({ influence }) => influence));
}

function lightWords(found) {
  if (!CSS.highlights) return; // a browser without them still has the words' list in the entity's window
  const most = Math.max(...found.flatMap(({ influence }) => influence.words.map((word) => Math.abs(word.change))));
  for (const { support, influence } of found) {
    const { paragraph } = items.find((item) => item.supports.includes(support));
    for (const word of influence.words) {
      const level = Math.ceil((LEVELS * Math.abs(word.change)) / most) || 1;
      const name = `moved-${word.change < 0 ? "down" : "up"}-${level}`;
      if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
      CSS.highlights.get(name).add(rangeOf(paragraph, word.start, word.end));
    }
  }
}

function pointAtSupport(supports) {
  pointAway();
  for (const { node, entity } of marks) {
    const [own] = influencesOn(entity, supports);
    node.classList.add(own ? "lit" : "unlit");
    if (own) node.dataset.moved = own.influence ? changeInWords(own.influence.change) : "voted";
  }
}

export function pointAway() {
  CSS.highlights?.clear();
  for (const { node } of [...marks, ...items]) node.classList.remove("lit", "unlit");
  for (const { node } of marks) delete node.dataset.moved;
  for (const { node } of items) node.querySelector(".rank").replaceChildren();
}
