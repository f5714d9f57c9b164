// The clusters as a list: what the map shows, for those who do not see it, and what each is about.
import { h, icon, span } from "../html";
import { count, emotionName, percent } from "../language";
import { toggle } from "../player";
import type { Cluster } from "./types";
import { t } from "./words";

export interface ClusterEvents {
  selected: (cluster: Cluster) => void;
  failed: (error: unknown) => void;
}

export function clusterList(clusters: readonly Cluster[], colourOf: (cluster: Cluster) => string, events: ClusterEvents): HTMLElement {
  const list = h("ul", { class: "clusters" }, ...clusters.map((each) => h("li", {}, card(each, colourOf(each), events))));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = [...list.querySelectorAll<HTMLElement>("summary")];
    const at = all.indexOf(event.target as HTMLElement);
    if (step === undefined || at < 0) return;
    event.preventDefault();
    all[at + step]?.focus();
  });
  return list;
}

function card(cluster: Cluster, colour: string, events: ClusterEvents): HTMLElement {
  const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.setProperty("--emotion", colour);
  const size = t("map.cluster.size", { n: count(cluster.size), share: percent(cluster.share), calls: count(cluster.recordings) });
  return h(
    "details",
    { "data-cluster": cluster.number },
    h("summary", {}, swatch, h("span", { class: "name" }, cluster.name), h("span", { class: "quiet" }, percent(cluster.share))),
    h("p", { class: "note" }, size),
    about(cluster),
    h("ul", { class: "central", "aria-label": t("map.cluster.central") }, ...cluster.segments.map((each) => h("li", {}, central(each, events)))),
    h("button", { type: "button", click: () => events.selected(cluster) }, t("map.cluster.select")),
  );
}

function about(cluster: Cluster): HTMLElement {
  const line = (name: string, said: string): HTMLElement => h("div", {}, h("dt", {}, name), h("dd", {}, said));
  const lift = (times: number): string => t("map.cluster.lift", { times: times.toFixed(1) });
  return h(
    "dl",
    {},
    ...cluster.emotions.filter((each) => each.share >= 0.05).slice(0, 3).map((each) => line(emotionName(each.name), `${percent(each.share)}, ${lift(each.lift)}`)),
    ...cluster.labels.slice(0, 2).map((each) => line(each.name, `${percent(each.share)}, ${lift(each.lift)}`)),
    ...cluster.metadata
      .slice(0, 3)
      .map((each) => line(`${each.key} = ${each.value}`, t("map.cluster.expected", { n: count(each.recordings), expected: count(each.expected, 1) }))),
  );
}

function central(segment: Cluster["segments"][number], events: ClusterEvents): HTMLElement {
  const click = (): void => void toggle(`segments/${segment.segment}/audio`).catch(events.failed);
  return h(
    "button",
    { type: "button", class: "plain", title: segment.text, click },
    icon("play"),
    h("span", { class: "unseen" }, t("map.cluster.play")),
    h("span", { class: "called" }, segment.name),
    h("span", { class: "quiet" }, span(segment.start_s, segment.end_s)),
  );
}
