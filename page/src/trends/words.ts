// Every word of the Trends view, in English and in Chinese.
import { speaker } from "../language";

const en = {
  "trends.title": "Trends",
};

const zh: Record<keyof typeof en, string> = {
  "trends.title": "趋势",
};

export const t = speaker(en, zh);
