// Every word of the Map view, in English and in Chinese.
import { speaker } from "../language";

const en = {
  "map.title": "Map",
};

const zh: Record<keyof typeof en, string> = {
  "map.title": "地图",
};

export const t = speaker(en, zh);
