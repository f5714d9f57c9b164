// The sound of a whole call, fetched a minute at a time: an hour of two channels would be 230 MB.
import { fetchSound, onPlaying, pause, seek, state, type Playing } from "../player";

const PIECE_S = 60;
const AHEAD_S = 20; // before its end, the next piece is fetched

let current: CallSound | null = null;

onPlaying((playing) => current?.follow(playing));

export class CallSound {
  at_s = 0; // from the call's beginning
  on = false;
  private piece = 0;
  private fetched = -1; // the last piece that was fetched ahead
  private wanted = false; // go on with the next piece
  private seeking = 0;

  /**
   * @param told called whenever `at_s` or `on` has changed.
   */
  constructor(
    private readonly id: string,
    private readonly duration_s: number,
    private readonly told: () => void,
    private readonly failed: (error: unknown) => void,
  ) {
    current = this;
  }

  toggle(): void {
    if (this.going) this.pause();
    else void this.play();
  }

  pause(): void {
    this.wanted = false;
    pause();
    this.follow(state()); // a second press may come before the element's event
  }

  /** Goes on from there; the whole call from its beginning once it is at its end. */
  async play(from_s = this.at_s): Promise<void> {
    this.at_s = from_s >= this.duration_s - 0.05 ? 0 : Math.max(0, from_s);
    this.piece = Math.floor(this.at_s / PIECE_S);
    this.wanted = true;
    this.seeking++;
    this.told();
    const start_s = this.piece * PIECE_S;
    try {
      await seek(this.path(), (this.at_s - start_s) / (this.end() - start_s));
      if (!this.wanted) pause(); // while it was fetched
    } catch (error) {
      this.wanted = false;
      this.failed(error);
    } finally {
      this.seeking--;
      if (current === this) this.follow(state()); // what came about while it was fetched
    }
  }

  /** Moves to a time; what plays goes on from there. */
  move(to_s: number): void {
    if (this.going) void this.play(to_s);
    else {
      this.at_s = to_s;
      this.told();
    }
  }

  leave(): void {
    if (current === this) current = null;
    pause();
  }

  follow({ path, at_s, duration_s, on }: Playing): void {
    if (this.seeking) return;
    if (path !== this.path() || duration_s === 0) {
      if (this.on) this.say(false);
      return;
    }
    const last = this.end() >= this.duration_s;
    if (this.wanted && !last && !on && at_s >= duration_s - 0.01) {
      void this.play(this.end());
      return;
    }
    if (on && !last && duration_s - at_s < AHEAD_S && this.fetched < this.piece + 1) {
      this.fetched = this.piece + 1;
      void fetchSound(this.path(this.fetched)).catch(() => undefined); // it is asked for again when it is played
    }
    if (on || this.on) this.at_s = Math.min(this.piece * PIECE_S + at_s, this.duration_s);
    this.say(on);
  }

  /** Whether it plays, or will as soon as it is fetched. */
  private get going(): boolean {
    return this.seeking ? this.wanted : this.on;
  }

  private say(on: boolean): void {
    this.on = on;
    this.told();
  }

  private end(piece = this.piece): number {
    return Math.min((piece + 1) * PIECE_S, this.duration_s);
  }

  private path(piece = this.piece): string {
    return `recordings/${this.id}/audio?start_s=${piece * PIECE_S}&end_s=${this.end(piece)}`;
  }
}
