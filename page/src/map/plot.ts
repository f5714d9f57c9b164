// The canvas with its camera: what is drawn where, moved by mouse, finger and keys, and what a line encloses.
import { h, svg } from "../html";
import { Grid, inside, type Spot } from "./geometry";
import { AXIS } from "./points";
import { rendererOf, type Camera, type Renderer } from "./renderer";

export type Tool = "move" | "lasso" | "box";

export interface PlotEvents {
  pointed: (point: number | null, x: number, y: number) => void; // the mouse is over it, at these pixels
  clicked: (point: number | null) => void;
  enclosed: (points: number[], add: boolean) => void;
  moved: () => void; // the camera
}

const REACH_PX = 12; // a point is pointed at from so far
const CLICK_PX = 4; // the mouse may move so far between down and up
const FEW = 300; // so many are found by their size
const STEP_PX = 3; // between corners of a lasso
const MARGIN = 0.86; // of the canvas that the whole map fills: a lasso begins beside it
const [FARTHEST, NEAREST] = [0.5, 400]; // of the scale that shows the whole map

export class Plot {
  readonly element: HTMLElement;
  readonly canvas = h("canvas", { tabindex: 0 });
  tool: Tool = "move";
  private readonly overlay = svg("svg", { "aria-hidden": "true" });
  private readonly line = svg("path", { class: "line" });
  private readonly ring = svg("circle", { class: "ring", r: 8 });
  private readonly renderer: Renderer;
  private readonly grid: Grid;
  private readonly sized: ResizeObserver;
  private camera: Camera = { x: 0, y: 0, scale: 0 };
  private whole = 1; // the scale that shows the whole map
  private dim = false;
  private grown = 1;
  private current = -1;
  private frame = 0;

  constructor(
    private readonly xy: Int16Array,
    private readonly events: PlotEvents,
  ) {
    this.grid = new Grid(xy);
    this.overlay.append(this.ring, this.line);
    this.element = h("div", { class: "plot" }, this.canvas, this.overlay);
    this.renderer = rendererOf(this.canvas);
    this.renderer.points(xy);
    this.lit(null);
    this.sized = new ResizeObserver(() => this.resize());
    this.sized.observe(this.element);
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault()); // so that it can be restored
    this.canvas.addEventListener("webglcontextrestored", () => location.reload()); // seldom: all would have to be sent anew
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), this.at(event));
    });
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) return;
      const point = this.grid.nearest(this.at(event), REACH_PX / this.camera.scale);
      this.canvas.classList.toggle("over", point >= 0);
      events.pointed(point < 0 ? null : point, event.offsetX, event.offsetY);
    });
    this.canvas.addEventListener("pointerleave", () => events.pointed(null, 0, 0));
  }

  get usesWebGl(): boolean {
    return this.canvas.dataset["renderer"] === "webgl";
  }

  destroy(): void {
    this.sized.disconnect();
    cancelAnimationFrame(this.frame);
  }

  colours(codes: Uint8Array, palette: readonly (readonly number[])[]): void {
    this.renderer.colours(codes, palette);
    this.draw();
  }

  /** Keeps some points bright and dims the others; null for none and none dimmed. */
  lit(flags: Uint8Array | null): void {
    this.dim = flags !== null;
    const lit = flags?.reduce((sum, flag) => sum + flag, 0) ?? 0;
    this.grown = lit === 0 ? 1 : lit <= FEW ? 2.4 : 1.3;
    this.renderer.lit(flags ?? new Uint8Array(this.xy.length / 2));
    this.draw();
  }

  /** Puts the ring around a point, and moves the camera where it would not be seen; -1 takes the ring away. */
  mark(point: number): void {
    this.current = point;
    if (point >= 0) {
      const [x, y] = this.pixels(this.spot(point));
      const { clientWidth: width, clientHeight: height } = this.element;
      if (x < 0 || y < 0 || x > width || y > height) [this.camera.x, this.camera.y] = this.spot(point);
    }
    this.draw();
  }

  /** The point with the ring moves one further in a direction; without one, to the middle's nearest. */
  step(dx: number, dy: number): number {
    const from = this.current < 0 ? this.grid.nearest([this.camera.x, this.camera.y], 4) : this.current;
    if (from < 0) return -1;
    const next = this.current < 0 ? from : this.grid.next(from, dx, dy);
    this.mark(next);
    return next;
  }

  /** The points in the box that two points span. */
  between(one: number, other: number): number[] {
    const [[ax, ay], [bx, by]] = [this.spot(one), this.spot(other)];
    const least = 1 / AXIS; // so that both are inside
    const [left, right] = [Math.min(ax, bx) - least, Math.max(ax, bx) + least];
    const [bottom, top] = [Math.min(ay, by) - least, Math.max(ay, by) + least];
    return inside(this.xy, [[left, bottom], [right, bottom], [right, top], [left, top]]);
  }

  zoom(by: number, around: Spot = [this.camera.x, this.camera.y]): void {
    const scale = Math.min(NEAREST * this.whole, Math.max(FARTHEST * this.whole, this.camera.scale * by));
    const share = 1 - this.camera.scale / scale;
    this.camera = { x: this.camera.x + (around[0] - this.camera.x) * share, y: this.camera.y + (around[1] - this.camera.y) * share, scale };
    this.draw();
  }

  reset(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    const { x, y, wide, tall } = extent(this.xy);
    this.whole = Math.max(1, Math.min((width * MARGIN) / wide, (height * MARGIN) / tall));
    this.camera = { x, y, scale: this.whole };
    this.draw();
  }

  spot(point: number): Spot {
    return [this.xy[2 * point]! / AXIS, this.xy[2 * point + 1]! / AXIS];
  }

  pixels([x, y]: Spot): [number, number] {
    const { clientWidth: width, clientHeight: height } = this.element;
    return [width / 2 + (x - this.camera.x) * this.camera.scale, height / 2 - (y - this.camera.y) * this.camera.scale];
  }

  private at({ offsetX, offsetY }: MouseEvent): Spot {
    const { clientWidth: width, clientHeight: height } = this.element;
    return [
      this.camera.x + (offsetX - width / 2) / this.camera.scale,
      this.camera.y - (offsetY - height / 2) / this.camera.scale,
    ];
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    [this.canvas.width, this.canvas.height] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
    if (this.camera.scale === 0) this.reset();
    cancelAnimationFrame(this.frame);
    this.paint(); // at once: a canvas is empty after its size has changed
  }

  private draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  private paint(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height || !this.camera.scale) return;
    // as many pixels as cover a tenth of the canvas, and more of them the nearer the camera
    const plain = Math.sqrt((width * height * 0.13) / (this.xy.length / 2));
    const size = Math.min(14, Math.max(2.5, plain) * Math.min(3, (this.camera.scale / this.whole) ** 0.35));
    this.renderer.draw({ camera: this.camera, width, height, ratio: devicePixelRatio, size, dim: this.dim, grown: this.grown });
    this.ring.classList.toggle("none", this.current < 0);
    if (this.current >= 0) {
      const [x, y] = this.pixels(this.spot(this.current));
      this.ring.setAttribute("cx", x.toFixed(1));
      this.ring.setAttribute("cy", y.toFixed(1));
    }
    this.events.moved();
  }

  private drag(down: PointerEvent): void {
    if (down.button !== 0) return;
    this.canvas.setPointerCapture(down.pointerId);
    const tool = this.tool;
    const start = { ...this.camera };
    const corners: Spot[] = [this.at(down)];
    let [lastX, lastY, far] = [down.offsetX, down.offsetY, false];
    const move = (event: PointerEvent): void => {
      if (event.pointerId !== down.pointerId) return;
      const [dx, dy] = [event.offsetX - down.offsetX, event.offsetY - down.offsetY];
      far ||= Math.hypot(dx, dy) > CLICK_PX;
      if (!far) return;
      if (tool === "move") {
        this.camera = { ...start, x: start.x - dx / start.scale, y: start.y + dy / start.scale };
        this.draw();
        return;
      }
      const [from, to] = [corners[0]!, this.at(event)];
      if (tool === "box") corners.splice(1, 3, [to[0], from[1]], to, [from[0], to[1]]);
      else if (Math.hypot(event.offsetX - lastX, event.offsetY - lastY) >= STEP_PX) {
        corners.push(to);
        [lastX, lastY] = [event.offsetX, event.offsetY];
      }
      this.line.setAttribute("d", `M${corners.map((corner) => this.pixels(corner).map((each) => each.toFixed(1)).join(" ")).join("L")}Z`);
    };
    const end = (event: PointerEvent): void => {
      if (event.pointerId !== down.pointerId) return;
      for (const [name, listener] of listeners) this.canvas.removeEventListener(name, listener);
      this.line.removeAttribute("d");
      if (event.type === "pointercancel") return;
      if (far && tool !== "move") this.events.enclosed(inside(this.xy, corners), down.shiftKey);
      else if (!far) {
        const point = this.grid.nearest(this.at(event), REACH_PX / this.camera.scale);
        this.events.clicked(point < 0 ? null : point);
      }
    };
    const listeners = [["pointermove", move], ["pointerup", end], ["pointercancel", end]] as const;
    for (const [name, listener] of listeners) this.canvas.addEventListener(name, listener);
  }
}

/** The middle and the size of what the points cover. */
function extent(xy: Int16Array): { x: number; y: number; wide: number; tall: number } {
  let [left, right, bottom, top] = [AXIS, -AXIS, AXIS, -AXIS];
  for (let at = 0; at < xy.length; at += 2) {
    const [x, y] = [xy[at]!, xy[at + 1]!];
    if (x < left) left = x;
    if (x > right) right = x;
    if (y < bottom) bottom = y;
    if (y > top) top = y;
  }
  const least = AXIS / 100; // of a map with a single point
  return {
    x: (left + right) / 2 / AXIS,
    y: (bottom + top) / 2 / AXIS,
    wide: Math.max(least, right - left) / AXIS,
    tall: Math.max(least, top - bottom) / AXIS,
  };
}
