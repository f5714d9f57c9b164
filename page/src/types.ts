// What the HTTP API answers, as far as the page reads it. The truth is the service's OpenAPI document.

export type By = "recording" | "segment";

export interface Hit {
  score: number;
  recording: string; // "call:45"
  segment: string; // "seg:123"
  name: string;
  uri: string;
  channel: number;
  start_s: number;
  end_s: number;
  segment_score: number;
  emotion: string | null; // a class, "unsure" or "too short"; null where the encoder has no classes
  emotion_score: number | null; // null where no class is named
  arousal: number | null; // 0 calm to 1 excited
  valence: number | null; // 0 unpleasant to 1 pleasant
  metadata: Record<string, string>;
  scores: Record<string, number>;
  text: string | null;
  label: string | null;
  label_score: number | null; // 1 where a person gave the label
  percentile: number | null; // of random pairs of segments here, that are less alike; null where there are none
  why: Explanation | null; // with `explain`
}

export interface Match {
  segment: string;
  reference: string; // "seg:12", a file's name, "emotion:angry"
  reference_start_s: number | null; // null: a name or vector, which is at no time
  start_s: number;
  end_s: number;
  cosine: number;
}

export interface Explanation {
  matches: Match[];
  shared: { emotion: string; reference: number; segment: number }[];
}

export interface QueryResult {
  hits: Hit[];
  searched: number;
  total: number;
  exact: boolean;
  seconds: number;
  references: string[];
  where: string | null;
  text: string | null;
  hint: string | null; // why a filter or words leave nothing
}

export interface Segment {
  id: string;
  recording: string;
  channel: number;
  start_s: number;
  end_s: number;
  emotion: string | null;
  emotion_score: number | null;
  arousal: number | null;
  valence: number | null;
  scores: Record<string, number>;
  text: string | null;
  label: string | null;
  label_score: number | null; // 1 where a person gave the label
}

export type Role = "customer" | "agent" | null; // null: not known

export interface Recording {
  id: string;
  name: string;
  uri: string;
  recorded_at: string; // ISO 8601
  duration_s: number;
  channels: number;
  metadata: Record<string, string>;
  roles: Role[] | null;
}

export interface RecordingPage {
  recordings: Recording[];
  next: string | null;
  emotions: Record<string, Record<string, number>> | null; // of each: shares of its speech by the name shown
  hint: string | null; // why there are none
}

export interface ChannelTimeline {
  channel: number;
  role: Role;
  analysed: boolean;
  speech_s: number;
  segments: Segment[];
}

export interface Dynamics {
  talk_share: number;
  silence_share: number;
  longest_silence_s: number;
  overtalk: number | null;
  interruptions: number | null;
  turns: number | null;
  by_channel: {
    channel: number;
    role: Role;
    talk_share: number;
    turns: number | null;
    interruptions: number | null;
    longest_turn_s: number | null;
  }[];
  overlaps: [number, number][];
  silences: [number, number][];
}

export interface TurningPoint {
  at_s: number;
  channel: number;
  segment: string;
  direction: "worsening" | "improving";
  valence_before: number;
  valence_after: number;
  emotion: string;
}

export interface Summary {
  course: "worsening" | "improving" | "steady" | "mixed" | null;
  by_role: { role: Role; segments: number; speech_s: number; shares: Record<string, number> }[];
  strongest: string[];
  turning_points: TurningPoint[];
}

/** One call as it is looked at. */
export interface Timeline {
  recording: Recording;
  channels: ChannelTimeline[];
  dynamics: Dynamics | null;
  summary: Summary;
}

export interface Filters {
  fields: string[];
  metadata: Record<string, string[]>;
  emotions: string[];
  labels: string[];
  left_out: string[]; // metadata keys that name employees
}

export interface Status {
  counts: { recordings: number; segments: number; speech_s: number };
}
