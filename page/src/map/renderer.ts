// Draws 100,000 points: with WebGL 2, or without it on a plain canvas. No library: regl generates its code with
// `new Function`, which the Content-Security-Policy forbids.
import { AXIS } from "./points";

/** What part of the map is seen: its middle, and how many pixels are one unit of the map's coordinates. */
export interface Camera {
  x: number;
  y: number;
  scale: number;
}

export interface Frame {
  camera: Camera;
  width: number; // pixels of CSS
  height: number;
  ratio: number; // device pixels in one of them
  size: number; // diameter of a point, pixels of CSS
  dim: boolean; // points that are not lit are faint
  grown: number; // times as large are those that are lit
}

export interface Renderer {
  /** Where the points lie: x, y, x, y …, 32767 is 1.0. */
  points(xy: Int16Array): void;
  /** The colour of each point, as an index into `palette` of [red, green, blue, alpha], 0 to 255. */
  colours(codes: Uint8Array, palette: readonly (readonly number[])[]): void;
  /** 1 for points that are lit: they lie on top, and stay bright where others are dimmed. */
  lit(flags: Uint8Array): void;
  draw(frame: Frame): void;
}

const FAINT = 0.1;

const VERTEX = `#version 300 es
layout(location = 0) in vec2 position;
layout(location = 1) in float code;
layout(location = 2) in float flag;
uniform vec4 view; // middle, scale to clip space
uniform float size;
uniform float pass; // 0: what is not lit, 1: what is
uniform float faint;
uniform float grown;
uniform sampler2D palette;
out vec4 colour;
void main() {
  bool shown = (flag > 0.5) == (pass > 0.5);
  gl_Position = shown ? vec4((position - view.xy) * view.zw, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size * (pass > 0.5 ? grown : 1.0);
  colour = texelFetch(palette, ivec2(int(code + 0.5), 0), 0);
  colour.a *= pass > 0.5 ? 1.0 : faint;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
out vec4 result;
void main() {
  float from = length(gl_PointCoord - 0.5) * 2.0;
  float alpha = colour.a * (1.0 - smoothstep(0.8, 1.0, from));
  if (alpha <= 0.003) discard;
  result = vec4(colour.rgb * alpha, alpha);
}`;

/** The best renderer that this browser has for a canvas. */
export function rendererOf(canvas: HTMLCanvasElement): Renderer {
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true, powerPreference: "low-power" });
  canvas.dataset["renderer"] = gl ? "webgl" : "canvas";
  return gl ? new WebGlRenderer(gl) : new CanvasRenderer(canvas.getContext("2d")!);
}

class WebGlRenderer implements Renderer {
  private readonly program: WebGLProgram;
  private readonly buffers: WebGLBuffer[];
  private n = 0;

  constructor(private readonly gl: WebGL2RenderingContext) {
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]] as const) {
      const shader = gl.createShader(type)!;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "WebGL");
    this.program = program;
    this.buffers = [0, 1, 2].map(() => gl.createBuffer());
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  points(xy: Int16Array): void {
    this.n = xy.length / 2;
    this.fill(0, xy, 2, this.gl.SHORT, true);
  }

  colours(codes: Uint8Array, palette: readonly (readonly number[])[]): void {
    const { gl } = this;
    this.fill(1, codes, 1, gl.UNSIGNED_BYTE, false);
    const pixels = new Uint8Array(4 * 256);
    palette.slice(0, 256).forEach((colour, at) => pixels.set(colour, 4 * at));
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  }

  lit(flags: Uint8Array): void {
    this.fill(2, flags, 1, this.gl.UNSIGNED_BYTE, false);
  }

  draw({ camera, width, height, ratio, size, dim, grown }: Frame): void {
    const { gl, program } = this;
    gl.viewport(0, 0, width * ratio, height * ratio);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(program);
    const at = (name: string): WebGLUniformLocation | null => gl.getUniformLocation(program, name);
    gl.uniform4f(at("view"), camera.x, camera.y, (2 * camera.scale) / width, (2 * camera.scale) / height);
    gl.uniform1f(at("size"), size * ratio);
    gl.uniform1f(at("faint"), dim ? FAINT : 1);
    gl.uniform1f(at("grown"), grown);
    for (const pass of [0, 1]) {
      gl.uniform1f(at("pass"), pass);
      gl.drawArrays(gl.POINTS, 0, this.n);
    }
  }

  private fill(location: number, data: ArrayBufferView, size: number, type: number, normalized: boolean): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[location]!);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, type, normalized, 0, 0);
  }
}

/** Slower, and enough: a square for each point. */
class CanvasRenderer implements Renderer {
  private xy: Int16Array = new Int16Array();
  private codes: Uint8Array = new Uint8Array();
  private flags: Uint8Array = new Uint8Array();
  private palette: readonly (readonly number[])[] = [];

  constructor(private readonly context: CanvasRenderingContext2D) {}

  points(xy: Int16Array): void {
    this.xy = xy;
  }

  colours(codes: Uint8Array, palette: readonly (readonly number[])[]): void {
    this.codes = codes;
    this.palette = palette;
  }

  lit(flags: Uint8Array): void {
    this.flags = flags;
  }

  draw({ camera, width, height, ratio, size, dim, grown }: Frame): void {
    const { context, xy, codes, flags, palette } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    for (const pass of [0, 1]) {
      const faint = dim && pass === 0 ? FAINT : 1;
      const side = pass === 0 ? size : size * grown;
      for (const [code, [red, green, blue, alpha]] of palette.entries()) {
        context.fillStyle = `rgb(${red} ${green} ${blue} / ${((alpha ?? 255) / 255) * faint})`;
        for (let at = 0; at < codes.length; at++) {
          if (codes[at] !== code || flags[at] !== pass) continue;
          const x = width / 2 + (xy[2 * at]! / AXIS - camera.x) * camera.scale;
          const y = height / 2 - (xy[2 * at + 1]! / AXIS - camera.y) * camera.scale;
          if (x > -side && x < width + side && y > -side && y < height + side) {
            context.fillRect(x - side / 2, y - side / 2, side, side);
          }
        }
      }
    }
  }
}
