// The Calls view: not made yet.
import "./calls.css";

import type { Params, View } from "../router";
import { empty } from "../states";
import { t } from "./words";

export function show(container: HTMLElement, _: Params): View {
  container.append(empty(t("calls.title"), t("state.later")));
  return { title: "" };
}
