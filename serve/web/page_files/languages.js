/** Languages by name, and a guess of a text's language from its script and its commonest words. */

const CODES = (
  "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is it " +
  "ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my nb ne nl no om or pa pl ps pt ro ru sa sd si sk sl so " +
  "sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi yo zh zu"
).split(" ");
const english = new Intl.DisplayNames("en", { type: "language" });

/** A language's name; a code that has none is its own. */
export function languageName(code) {
  try {
    return english.of(code);
  } catch {
    return code; // no language tag at all
  }
}

/** Fills a list of languages to choose from, by name, with one that stands for "none of them". */
export function fillLanguages(select, none) {
  const named = CODES.map((code) => [languageName(code), code]).sort();
  select.replaceChildren(new Option(none, ""), ...named.map(([name, code]) => new Option(name, code)));
}

/** Chooses a language in a list; one that is missing there is added. */
export function chooseLanguage(select, code) {
  if (code && ![...select.options].some((option) => option.value === code))
    select.append(new Option(languageName(code), code));
  select.value = code;
}

const SCRIPTS = [
  ["ja", /[\p{sc=Hiragana}\p{sc=Katakana}]/u],
  ["zh", /\p{sc=Han}/u],
  ["ko", /\p{sc=Hangul}/u],
  ["th", /\p{sc=Thai}/u],
  ["el", /\p{sc=Greek}/u],
  ["he", /\p{sc=Hebrew}/u],
  ["ka", /\p{sc=Georgian}/u],
  ["hy", /\p{sc=Armenian}/u],
  ["am", /\p{sc=Ethiopic}/u],
  ["bn", /\p{sc=Bengali}/u],
  ["ta", /\p{sc=Tamil}/u],
  ["te", /\p{sc=Telugu}/u],
  ["ml", /\p{sc=Malayalam}/u],
  ["kn", /\p{sc=Kannada}/u],
  ["gu", /\p{sc=Gujarati}/u],
  ["pa", /\p{sc=Gurmukhi}/u],
  ["km", /\p{sc=Khmer}/u],
  ["my", /\p{sc=Myanmar}/u],
  ["uk", /[їєґі]/iu],
  ["ru", /[ыэё]/iu],
  ["ur", /[ٹڈڑے]/u],
  ["fa", /[پچژگ]/u],
  ["ar", /\p{sc=Arabic}/u],
];
const WORDS = {
  de: "der die das und ist nicht mit von im den dem ein eine auf für bei nach am zu wurde hat",
  en: "the of and to in is was for on with that by from at an has have he it as",
  es: "el los las del y en que por con una su se es para al lo no más fue ha",
  fr: "le les des du et en est dans que pour par sur au aux avec une son sa a été",
  hi: "है में के की का ने को से और हैं किया पर यह",
  it: "il lo gli della di che è per con del nel una un alla dal sono ha si non",
  mr: "आहे आणि च्या मध्ये यांनी होते झाला",
  nl: "de het een van en is in op met voor zijn niet dat bij aan naar door ook wordt",
  pl: "i w na z się nie do jest to że od po przez dla był oraz",
  pt: "o os as do da em que e um uma para com não no na por ao mais foi deixa",
  sv: "och att det som en på är av för med den till inte har ett i om från var",
  sw: "na ya wa kwa ni katika la za mpya mjini alikuwa kuwa ambaye",
  tr: "ve bir bu ile için da de olarak sonra daha olan gibi kadar",
  vi: "của và là có trong được cho không người với một các",
};

/** The likely language of a text, "" where nothing speaks for one. */
export function guessLanguage(text) {
  for (const [code, script] of SCRIPTS) if (script.test(text)) return code;
  const words = text.toLowerCase().match(/[\p{L}\p{M}]+/gu) ?? [];
  const hits = Object.entries(WORDS).map(([code, common]) => {
    const known = new Set(common.split(" "));
    return [words.filter((word) => known.has(word)).length, code];
  });
  const [[most, code], [second]] = hits.sort(([a], [b]) => b - a);
  return most > second ? code : "";
}
