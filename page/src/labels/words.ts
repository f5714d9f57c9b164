// Every word of the Labels view, in English and in Chinese.
import { speaker } from "../language";

const en = {
  "labels.title": "Labels",
};

const zh: Record<keyof typeof en, string> = {
  "labels.title": "标签",
};

export const t = speaker(en, zh);
