import type { Params, View } from "../router";
export function show(container: HTMLElement, _: Params): View { container.append("map"); return { title: "" }; }
