// Figures in words.
import { count, percent } from "../language";
import { nameOfGroup, nameOfValue } from "./panels";
import type { Row, Trends } from "./types";
import { t } from "./words";

export function interval({ low, high }: Row): string {
  return t("trends.interval", { low: Math.round(100 * low), high: Math.round(100 * high) });
}

export function segmentsOf({ segments, of_segments }: Row): string {
  return t("trends.of", { n: count(segments), of: count(of_segments) });
}

export function recordingsOf({ recordings, of_recordings }: Row): string {
  return t("trends.of", { n: count(recordings), of: count(of_recordings) });
}

/** All that a point stands for. */
export function sayRow(trends: Trends, row: Row): string {
  const name = [row.period, trends.group === null ? null : nameOfGroup(trends.group, row.group), nameOfValue(trends.of, row.value)];
  return t("trends.point", {
    name: name.filter((each) => each !== null).join(" · "),
    share: percent(row.share),
    interval: interval(row),
    segments: segmentsOf(row),
    calls: recordingsOf(row),
  });
}
