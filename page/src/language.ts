// Which language the page speaks.
import { WORDS, type Word } from "./words";

export type Language = keyof typeof WORDS;

const KEPT = "e2vsearch.language";

let language: Language = chosen();

function chosen(): Language {
  const kept = localStorage.getItem(KEPT) ?? navigator.language;
  return kept.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** The words for `word`, with `{name}` filled in. */
export function t(word: Word, values: Record<string, string | number> = {}): string {
  return WORDS[language][word].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** An emotion's name as the reader would say it; one that no encoder of ours has stays as it is. */
export function emotionName(emotion: string): string {
  const word = `emotion.${emotion}`;
  return word in WORDS.en ? t(word as Word) : emotion;
}

export function toggleLanguage(): void {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEPT, language);
}

/** Writes the words into what `index.html` marks with data-t, data-t-label and data-t-placeholder. */
export function speak(): void {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll<HTMLElement>("[data-t]")) {
    element.textContent = t(element.dataset["t"] as Word);
  }
  for (const element of document.querySelectorAll<HTMLElement>("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset["tLabel"] as Word));
    element.title = t(element.dataset["tLabel"] as Word);
  }
  for (const element of document.querySelectorAll<HTMLInputElement>("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset["tPlaceholder"] as Word);
  }
}

/** The other language, in its own words, for the button that switches to it. */
export function otherLanguage(): { name: string; lang: string } {
  return language === "en" ? { name: "中文", lang: "zh-CN" } : { name: "English", lang: "en" };
}
