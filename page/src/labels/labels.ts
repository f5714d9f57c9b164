// The Labels view: not made yet.
import "./labels.css";

import type { Params, View } from "../router";
import { empty } from "../states";
import { t } from "./words";

export function show(container: HTMLElement, _: Params): View {
  container.append(empty(t("labels.title"), t("state.later")));
  return { title: "" };
}
