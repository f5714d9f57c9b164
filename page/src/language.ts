// Which language the page speaks.
import { WORDS, type Word } from "./words";

export type Language = "en" | "zh";

/** The words for `word`, with `{name}` filled in; `{n:call|calls}` is "1 call", "2 calls". */
export type Speaker<W extends string> = (word: W, values?: Record<string, string | number>) => string;

const KEPT = "e2vsearch.language";

let language: Language = chosen();
const all: Record<Language, Record<string, string>> = { en: { ...WORDS.en }, zh: { ...WORDS.zh } };

function chosen(): Language {
  const kept = localStorage.getItem(KEPT) ?? navigator.language;
  return kept.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Adds a view's words to those that all views share; every word is there in both languages, or this does not compile. */
export function speaker<W extends string>(en: Record<W, string>, zh: Record<NoInfer<W>, string>): Speaker<W | Word> {
  Object.assign(all.en, en);
  Object.assign(all.zh, zh);
  return say;
}

function say(word: string, values: Record<string, string | number> = {}): string {
  return (all[language][word] ?? word).replace(/\{(\w+)(?::(.+?)\|(.+?))?\}/g, (_, name: string, one?: string, many?: string) => {
    const value = String(values[name] ?? "");
    return one === undefined ? value : `${value} ${value === "1" ? one : many}`;
  });
}

export const t: Speaker<Word> = say;

/** An emotion's name as the reader would say it; one that no encoder of ours has stays as it is. */
export function emotionName(emotion: string): string {
  const word = `emotion.${emotion}`;
  return word in WORDS.en ? t(word as Word) : emotion;
}

/** A whole number, or one with so many digits after the point, as the reader writes it. */
export function count(n: number, digits = 0): string {
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return n.toLocaleString(document.documentElement.lang, format);
}

export function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}

export function toggleLanguage(): void {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEPT, language);
}

/** Writes the words into what `index.html` marks with data-t, data-t-label and data-t-placeholder. */
export function speak(): void {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll<HTMLElement>("[data-t]")) {
    element.textContent = say(element.dataset["t"] ?? "");
  }
  for (const element of document.querySelectorAll<HTMLElement>("[data-t-label]")) {
    const label = say(element.dataset["tLabel"] ?? "");
    element.setAttribute("aria-label", label);
    element.title = label;
  }
  for (const element of document.querySelectorAll<HTMLInputElement>("[data-t-placeholder]")) {
    element.placeholder = say(element.dataset["tPlaceholder"] ?? "");
  }
}

/** The other language, in its own words, for the button that switches to it. */
export function otherLanguage(): { name: string; lang: string } {
  return language === "en" ? { name: "中文", lang: "zh-CN" } : { name: "English", lang: "en" };
}
