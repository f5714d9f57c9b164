// Which points lie where: nearest, next in a direction, inside a line that was drawn.
import { AXIS } from "./points";

export type Spot = readonly [x: number, y: number]; // in the map's coordinates

const CELLS = 128; // a side: 100,000 points are six a cell

/** Points sorted into cells, so that the nearest is found without looking at all of them. */
export class Grid {
  private readonly starts = new Uint32Array(CELLS * CELLS + 1);
  private readonly sorted: Uint32Array;

  constructor(private readonly xy: Int16Array) {
    const n = xy.length / 2;
    const cells = new Uint32Array(n);
    for (let at = 0; at < n; at++) {
      cells[at] = cell(xy[2 * at + 1]! / AXIS) * CELLS + cell(xy[2 * at]! / AXIS);
      this.starts[cells[at]! + 1]!++;
    }
    for (let at = 0; at < CELLS * CELLS; at++) this.starts[at + 1]! += this.starts[at]!;
    const next = this.starts.slice();
    this.sorted = new Uint32Array(n);
    for (let at = 0; at < n; at++) this.sorted[next[cells[at]!]!++] = at;
  }

  /** The nearest point that is no farther than `reach`, -1 where there is none. */
  nearest([x, y]: Spot, reach: number): number {
    let found = -1;
    let best = reach * reach;
    const [left, right] = [cell(x - reach), cell(x + reach)];
    for (let row = cell(y - reach); row <= cell(y + reach); row++) {
      for (let at = this.starts[row * CELLS + left]!; at < this.starts[row * CELLS + right + 1]!; at++) {
        const point = this.sorted[at]!;
        const distance = (this.xy[2 * point]! / AXIS - x) ** 2 + (this.xy[2 * point + 1]! / AXIS - y) ** 2;
        if (distance < best) [found, best] = [point, distance];
      }
    }
    return found;
  }

  /** The nearest point to the left, right, top or bottom of one, within 45° of that direction; itself where there is none. */
  next(from: number, dx: number, dy: number): number {
    const [x, y] = [this.xy[2 * from]! / AXIS, this.xy[2 * from + 1]! / AXIS];
    let found = from;
    let best = Infinity;
    for (let at = 0; at < this.xy.length / 2; at++) {
      const [right, up] = [this.xy[2 * at]! / AXIS - x, this.xy[2 * at + 1]! / AXIS - y];
      const ahead = right * dx + up * dy;
      const aside = Math.abs(right * dy) + Math.abs(up * dx);
      if (ahead <= 1e-6 || aside > ahead) continue;
      const distance = ahead + aside;
      if (distance < best) [found, best] = [at, distance];
    }
    return found;
  }
}

function cell(coordinate: number): number {
  return Math.min(CELLS - 1, Math.max(0, Math.floor(((coordinate + 1) / 2) * CELLS)));
}

/** The points inside a closed line (even-odd rule). */
export function inside(xy: Int16Array, line: readonly Spot[]): number[] {
  const found: number[] = [];
  if (line.length < 3) return found;
  const xs = line.map(([x]) => x * AXIS);
  const ys = line.map(([, y]) => y * AXIS);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [bottom, top] = [Math.min(...ys), Math.max(...ys)];
  for (let at = 0; at < xy.length / 2; at++) {
    const [x, y] = [xy[2 * at]!, xy[2 * at + 1]!];
    if (x < left || x > right || y < bottom || y > top) continue;
    let within = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
      const [ya, yb] = [ys[i]!, ys[j]!];
      if (ya > y !== yb > y && x < ((xs[j]! - xs[i]!) * (y - ya)) / (yb - ya) + xs[i]!) within = !within;
    }
    if (within) found.push(at);
  }
  return found;
}
