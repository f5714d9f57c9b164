// A waveform as inline SVG, light enough for a list of a hundred.
import { h, svg } from "./html";

export const BARS = 120;

const HEIGHT = 100;
const BAR_PX = 4; // a line of two and a gap as wide: closer together they melt into one
const SILENT = 0.02; // a peak below -34 dB of full scale is drawn as low as it is, not blown up to fill the row

export class Waveform {
  readonly element: HTMLElement;

  /**
   * @param label what screen readers say it is.
   * @param onSeek called with the share of the whole, 0 to 1, that was clicked.
   */
  constructor(label: string, onSeek: (share: number) => void) {
    this.element = h("div", { class: "wave", role: "img", "aria-label": label });
    this.element.addEventListener("click", (event) => {
      const box = this.element.getBoundingClientRect();
      onSeek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    });
  }

  /**
   * Draws it.
   *
   * @param peaks magnitudes, 0 to 1, evenly spaced.
   * @param inside the part of the whole, in shares, that the rest is only context of.
   */
  draw(peaks: ArrayLike<number>, inside: readonly [number, number] = [0, 1]): void {
    const drawn = fewer(Array.from(peaks), Math.floor(this.element.clientWidth / BAR_PX));
    const width = drawn.length;
    const loudest = Math.max(SILENT, ...drawn);
    const bars = (from: number, to: number): string =>
      drawn
        .map((peak, index) => [index + 0.5, Math.max(1.5, (peak / loudest) * (HEIGHT / 2 - 6))] as const)
        .filter(([x]) => x >= from * width && x < to * width)
        .map(([x, tall]) => `M${x} ${(HEIGHT / 2 - tall).toFixed(1)}V${(HEIGHT / 2 + tall).toFixed(1)}`)
        .join("");
    const layer = (name: string): SVGElement =>
      svg(
        "svg",
        { class: name, viewBox: `0 0 ${width} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("path", { class: "context", d: bars(0, inside[0]) + bars(inside[1], 1) }),
        svg("path", { class: "inside", d: bars(...inside) }),
      );
    // the second lies over the first in the accent's colour, cut off where the sound has come to
    this.element.replaceChildren(layer("all"), layer("heard"));
  }

  /** Marks how far it has been played, as a share of the whole. */
  at(share: number): void {
    this.element.style.setProperty("--heard", `${(share * 100).toFixed(2)}%`);
    this.element.classList.toggle("begun", share > 0);
  }
}

/** At most `n` peaks, each the largest of its neighbours. */
export function fewer(peaks: number[], n: number): number[] {
  if (n < 1 || peaks.length <= n) return peaks;
  const each = Math.ceil(peaks.length / n);
  return Array.from({ length: Math.ceil(peaks.length / each) }, (_, part) =>
    Math.max(...peaks.slice(part * each, (part + 1) * each)),
  );
}

/** The largest magnitude in each of `n` equal parts of a sound, as the service's own peaks are, and how long it is. */
export async function peaksOf(blob: Blob, n = BARS): Promise<{ peaks: Float32Array; duration_s: number }> {
  // 8 kHz is enough to see, and the lowest rate that every browser decodes to
  const sound = await new OfflineAudioContext(1, 1, 8000).decodeAudioData(await blob.arrayBuffer());
  const samples = sound.getChannelData(0);
  const peaks = Float32Array.from({ length: n }, (_, part) => {
    const [from, to] = [Math.floor((part * samples.length) / n), Math.floor(((part + 1) * samples.length) / n)];
    let peak = 0;
    for (let index = from; index < to; index++) peak = Math.max(peak, Math.abs(samples[index] ?? 0));
    return peak;
  });
  return { peaks, duration_s: sound.duration };
}
