// How a call went: its course, what each role expresses, the strongest segments, and who speaks when.
import { emotionTag } from "../emotion";
import { clock, h } from "../html";
import { count, emotionName, percent } from "../language";
import type { Dynamics, Segment, Timeline } from "../types";
import { roleName } from "./roles";
import { sharesBar } from "./shares";
import { t } from "./words";

/**
 * @param choose called with the segment that a reader wants to hear.
 */
export function summary(timeline: Timeline, choose: (segment: string) => void): HTMLElement {
  const { course, by_role, strongest, turning_points } = timeline.summary;
  const segments = new Map(timeline.channels.flatMap((each) => each.segments).map((each) => [each.id, each]));
  const known = strongest.flatMap((id) => segments.get(id) ?? []);
  return h(
    "section",
    { class: "card summary", "aria-labelledby": "summary-title" },
    h("h3", { id: "summary-title" }, t("calls.summary")),
    h("p", { class: `course ${course ?? "untold"}` }, h("strong", {}, t(`calls.course.${course ?? "untold"}`)), ` ${t(course === null ? "calls.course.few" : "calls.course.of")}`),
    ...by_role.map(({ role, speech_s, shares }) =>
      h(
        "div",
        {},
        h("h4", {}, role === null ? t("calls.role.unknown") : roleName(role, 0), h("span", { class: "quiet" }, ` ${t("calls.speech", { time: clock(speech_s, 0) })}`)),
        Object.keys(shares).length ? sharesBar(shares) : h("p", { class: "note" }, t("calls.shares.none")),
      ),
    ),
    ...(turning_points.length
      ? [
          h("h4", {}, t("calls.turns")),
          h(
            "ol",
            { class: "moments" },
            ...turning_points.map((point) =>
              moment(
                point.at_s,
                () => choose(point.segment),
                h("span", {}, h("strong", {}, t(`calls.turn.${point.direction}`)), ` ${t("calls.turn.of", { emotion: emotionName(point.emotion), before: point.valence_before.toFixed(2), after: point.valence_after.toFixed(2) })}`),
              ),
            ),
          ),
        ]
      : []),
    ...(known.length
      ? [h("h4", {}, t("calls.strongest")), h("ol", { class: "moments" }, ...known.map((each) => strong(each, choose)))]
      : []),
    ...dynamics(timeline.dynamics),
  );
}

function strong(segment: Segment, choose: (segment: string) => void): HTMLElement {
  return moment(segment.start_s, () => choose(segment.id), emotionTag(segment), segment.text ? h("span", { class: "quiet" }, segment.text) : null);
}

function moment(at_s: number, click: () => void, ...said: (HTMLElement | null)[]): HTMLElement {
  const time = clock(at_s);
  return h("li", {}, h("button", { type: "button", class: "time", "aria-label": t("hit.play", { what: time }), click }, time), h("div", { class: "said" }, ...said));
}

function dynamics(of: Dynamics | null): HTMLElement[] {
  if (of === null) return [h("h4", {}, t("calls.dynamics")), h("p", { class: "note" }, t("calls.dynamics.none"))];
  const row = (name: string, value: string): HTMLElement => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const times = (n: number | null): string => (n === null ? "–" : count(n));
  const head = [t("calls.dynamics.talk"), t("calls.dynamics.turns"), t("calls.dynamics.interrupts"), t("calls.dynamics.longest")];
  const several = of.by_channel.length > 1;
  return [
    h("h4", {}, t("calls.dynamics")),
    h(
      "dl",
      { class: "facts" },
      row(t("calls.dynamics.talk"), percent(of.talk_share)),
      row(t("calls.dynamics.silence"), t("calls.dynamics.silence.of", { share: percent(of.silence_share), longest: of.longest_silence_s.toFixed(1) })),
      of.overtalk === null ? null : row(t("calls.dynamics.overtalk"), percent(of.overtalk)),
      of.turns === null ? null : row(t("calls.dynamics.turns"), count(of.turns)),
      of.interruptions === null ? null : row(t("calls.dynamics.interruptions"), count(of.interruptions)),
    ),
    ...(several
      ? [
          h(
            "table",
            {},
            h("thead", {}, h("tr", {}, h("td", {}), ...head.map((each) => h("th", { scope: "col" }, each)))),
            h(
              "tbody",
              {},
              ...of.by_channel.map((each) =>
                h(
                  "tr",
                  {},
                  h("th", { scope: "row" }, roleName(each.role, each.channel)),
                  h("td", {}, percent(each.talk_share)),
                  h("td", {}, times(each.turns)),
                  h("td", {}, times(each.interruptions)),
                  h("td", {}, each.longest_turn_s === null ? "–" : t("calls.seconds", { n: each.longest_turn_s.toFixed(1) })),
                ),
              ),
            ),
          ),
        ]
      : []),
  ];
}
