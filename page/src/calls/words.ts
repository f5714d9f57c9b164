// Every word of the Calls view, in English and in Chinese.
import { speaker } from "../language";

const en = {
  "calls.title": "Calls",
};

const zh: Record<keyof typeof en, string> = {
  "calls.title": "通话",
};

export const t = speaker(en, zh);
