/** Files of texts: what the page reads, and what it writes of answers. */

import { Problem } from "./service.js";
import { wordsOf } from "./text.js";

const TAG = /^(O|[BIESLU]-\S+)$/; // of an entity, in the last column of a file of words

/**
 * The items of a file, in order: { text } or { words }. Lines of JSON have text, or words as tokens or words; lines of
 * words with tags make sentences; of all else every line is a text.
 */
export function readItems(name, bytes) {
  const content = decoded(name, bytes);
  const lines = content.split(/\r?\n/);
  const first = lines.find((line) => line.trim()) ?? "";
  if (first.trimStart().startsWith("{")) return ofJson(name, lines);
  const tagged = lines.filter((line) => TAG.test(line.trim().split(/\s+/).slice(1).at(-1) ?? "")).length;
  const filled = lines.filter((line) => line.trim() && !line.startsWith("#")).length;
  if (tagged > filled / 2) return ofColumns(lines);
  return lines.filter((line) => line.trim()).map((text) => ({ text }));
}

function decoded(name, bytes) {
  const [a, b, c, d] = new Uint8Array(bytes.slice(0, 4));
  const isZip = a === 0x50 && b === 0x4b; // docx, odt and others
  const isPdf = a === 0x25 && b === 0x50 && c === 0x44 && d === 0x46;
  const fix = "Save it as plain text (UTF-8), and open that.";
  if (isZip || isPdf) throw new Problem({ title: name, detail: `The page reads no ${isPdf ? "PDF" : "Word files"}. ${fix}` });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Problem({ title: name, detail: `This is no text in UTF-8. ${fix}` });
  }
}

function ofJson(name, lines) {
  return lines.flatMap((line, i) => {
    if (!line.trim()) return [];
    let record = {};
    try {
      record = JSON.parse(line);
    } catch {
      // told below
    }
    const words = record?.tokens ?? record?.words;
    if (Array.isArray(words) && words.length) return [{ words: words.map(String) }];
    if (typeof record?.text === "string") return [{ text: record.text }];
    throw new Problem({ title: name, detail: `Line ${i + 1} is no JSON object with text, tokens or words.` });
  });
}

function ofColumns(lines) {
  const sentences = [[]];
  for (const line of lines) {
    const columns = line.trim().split(/\t| +/);
    if (!line.trim()) sentences.push([]);
    else if (!line.startsWith("#") && columns[0] !== "-DOCSTART-")
      sentences.at(-1).push(/^\d+$/.test(columns[0]) && columns.length > 2 ? columns[1] : columns[0]);
  }
  return sentences.filter((words) => words.length).map((words) => ({ words }));
}

/** Answers as doccano has them, a text a line; `metacross convert` and the service read that. */
export const asJsonLines = (results) =>
  results.map(({ text, entities }) => {
    const label = entities.map((entity) => [entity.start, entity.end, entity.label]);
    return `${JSON.stringify({ text, label })}\n`;
  }).join("");

/** Answers as a word and its tag a line; an empty line ends a sentence. Words that were not given the browser finds. */
export const asColumns = (results) => results.flatMap((result) => sentences(result).map(columns)).join("\n");

/** The sentences of an answer: those that it was tagged by, where it tells; otherwise its lines. */
function sentences({ text, entities, words, support = [] }) {
  const chars = Array.from(text);
  if (words) return [{ words: placed(words, chars), entities }];
  const starts = new Set([0, ...support.filter((one) => !one.voted).map((one) => one.start)]);
  chars.forEach((char, i) => char === "\n" && starts.add(i + 1));
  const borders = [...starts].sort((a, b) => a - b);
  return borders.map((start, i) => {
    const end = borders[i + 1] ?? chars.length;
    const own = entities.filter((one) => start <= one.start && one.end <= end);
    const part = chars.slice(start, end).join("");
    const moved = own.map((one) => ({ ...one, start: one.start - start, end: one.end - start }));
    return { words: wordsOf(part, moved), entities: moved };
  }).filter((sentence) => sentence.words.length);
}

/** Given words with their offsets in the text that the service made of them. */
function placed(words, chars) {
  let at = 0;
  return words.map((text) => {
    while (chars[at]?.trim() === "" && text.trim()) at += 1;
    const start = at;
    return { text, start, end: (at += Array.from(text).length) };
  });
}

function columns({ words, entities }) {
  const lines = words.map(({ text, start, end }) => {
    const entity = entities.find((one) => one.start < end && start < one.end);
    const begins = entity && !words.some((other) => other.end <= start && entity.start < other.end);
    return `${text}\t${entity ? `${begins ? "B" : "I"}-${entity.label}` : "O"}\n`;
  });
  return lines.join("");
}
