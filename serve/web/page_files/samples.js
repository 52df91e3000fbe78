/**
 * Sample sentences. Those with a lesson show that one corrected sentence changes the answer to another: `words` are
 * `label`, and `next` is a sentence that nobody labelled. docs/page.md says on which bundle that was tried.
 */

export const SAMPLES = [
  {
    lang: "es",
    name: "Español",
    text: "La escritora Valeria Montoya presentó su nueva novela en la Feria del Libro de Guadalajara.",
    lesson: {
      says: "The book fair is an event: not an organisation, but another kind of name.",
      words: "Feria del Libro de Guadalajara",
      label: "MISC",
      next: "El poeta Julián Ferrer leyó sus versos en la Feria del Libro de Bogotá.",
    },
  },
  {
    lang: "de",
    name: "Deutsch",
    text: "Bürgermeisterin Anke Lorenz eröffnete am Montag in Bremen das neue Labor der Firma Nordwind.",
  },
  { lang: "zh", name: "中文", text: "李文博上周在成都向四川大学的学生介绍了他的研究。" },
  {
    lang: "ar",
    name: "العربية",
    text: "زارت الباحثة ليلى المنصوري جامعة القاهرة قبل سفرها إلى تونس.",
    lesson: {
      says: "The university’s name has two words: “University of Cairo”.",
      words: "جامعة القاهرة",
      label: "ORG",
      next: "زارت الطبيبة سلمى حداد جامعة دمشق قبل سفرها إلى عمان.",
    },
  },
  { lang: "hi", name: "हिन्दी", text: "अनन्या शर्मा ने जयपुर में भारतीय रेल के नए स्टेशन का उद्घाटन किया।" },
  { lang: "pt", name: "Português", text: "Boa notícia 🎉 Helena Duarte deixa o Banco Central e volta para Coimbra." },
  { lang: "tr", name: "Türkçe", text: "Deniz Yılmaz, Ankara'daki toplantıdan sonra Anadolu Ajansı ile konuştu." },
  { lang: "sw", name: "Kiswahili", text: "Amina Juma alifungua ofisi mpya ya Umoja wa Mataifa mjini Nairobi." },
];
