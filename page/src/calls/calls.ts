// The Calls view: a list to look through, and one call as a whole.
import "./calls.css";

import type { Params, View } from "../router";
import { showCall } from "./call";
import { showList } from "./list";

export function show(container: HTMLElement, params: Params): Promise<View> {
  return params.id === null ? showList(container, params) : showCall(container, params.id, params);
}
