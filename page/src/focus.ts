// The focus, where what has it is drawn anew: a filter that was changed, in the form that comes in its place.

/** Gives the focus to what is drawn in `root` in the place of what has it now, as soon as that is there. */
export function keepFocus(root: HTMLElement): void {
  const had = document.activeElement;
  if (!(had instanceof HTMLElement) || !root.contains(had)) return;
  const name = had.getAttribute("name");
  if (name === null) return;
  const of = `${had.localName}[name="${CSS.escape(name)}"]`;
  const selector = had instanceof HTMLInputElement && had.type === "radio" ? `${of}[value="${CSS.escape(had.value)}"]` : of;
  const caret = had instanceof HTMLInputElement || had instanceof HTMLTextAreaElement ? had.selectionEnd : null; // null of a date, say
  const observer = new MutationObserver(() => {
    const here = root.querySelector<HTMLElement>(selector);
    if (here === had) return;
    if (here && document.activeElement === document.body) {
      here.focus({ preventScroll: true });
      if (caret !== null) (here as HTMLInputElement).setSelectionRange(caret, caret);
    }
    if (here || document.activeElement !== document.body) observer.disconnect();
  });
  observer.observe(root, { childList: true, subtree: true });
}
