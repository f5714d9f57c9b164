// What /labels answers, as far as this view reads it.

export interface Suggestion {
  segment: string; // "seg:12"
  recording: string; // "call:3"
  name: string;
  channel: number;
  start_s: number;
  end_s: number;
  label: string | null;
  score: number | null;
  margin: number | null;
  kind: "undecided" | "between" | "alike" | "typical";
  other: string | null;
  share: number | null;
  text: string | null;
  emotion: string | null;
  emotion_score: number | null;
}

export interface LabelCount {
  name: string;
  examples: number;
  classified: number;
  recordings: number;
}

export interface Needs {
  train: number; // examples of a label, at least
  measure: number; // for figures that mean something
  recordings: number; // that these come from
}

export interface ClassReport {
  label: string;
  examples: number;
  groups: number;
  recall: number | null;
  precision: number | null;
}

export interface ClassifierReport {
  name: string;
  version: number;
  labels: string[];
  created_at: string;
  examples: number;
  groups: number;
  folds: number;
  accuracy: number | null;
  accuracy_interval: [number, number] | null;
  accuracy_chance: number;
  uar: number | null;
  uar_interval: [number, number] | null;
  uar_chance: number;
  calibration_error: number | null;
  confusion: number[][];
  classes: ClassReport[];
  contrast: string | null;
  warnings: string[];
  imported: boolean;
}

export interface Labels {
  labels: LabelCount[];
  classifiers: ClassifierReport[];
  needs: Needs;
}

export interface LabelReport {
  label: string;
  added: number;
  already: number;
  replaced: { example: string; before: string }[];
  near: string | null;
}

export interface Classified {
  classifier: string;
  version: number;
  scored: number;
  stored: number;
  skipped: number;
  labels: Record<string, number>;
  min_score: number;
}
