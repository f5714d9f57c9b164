// The HTTP API of the service that this page came from.
import { ROOT } from "./router";

const KEPT = "e2vsearch.key";

/** An answer that is an error; its message is the service's own, which holds its cure. */
export class ApiError extends Error {
  constructor(
    readonly status: number, // 0: there was no answer
    message: string,
    readonly reason = "", // the service's short stable word for it
  ) {
    super(message);
  }
}

let key = sessionStorage.getItem(KEPT);
let asking: Promise<string | null> | undefined;
let askKey: (message: string) => Promise<string | null> = async () => null;

/** Says who asks the reader for the API key; null means they would not give it. */
export function onKeyNeeded(ask: typeof askKey): void {
  askKey = ask;
}

/**
 * One request to `path`, relative to the page's root.
 *
 * On 401 the reader is asked for the key, once for however many requests are under way.
 *
 * @throws ApiError, or the AbortError of `init.signal`.
 */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    const used = key;
    const headers = new Headers(init.headers);
    if (used !== null) headers.set("Authorization", `Bearer ${used}`);
    let response: Response;
    try {
      response = await fetch(new URL(path, ROOT), { ...init, headers });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new ApiError(0, "");
    }
    if (response.ok) return response;
    const { message, reason } = await said(response);
    if (response.status !== 401) throw new ApiError(response.status, message, reason);
    if (key !== used) continue; // another request has asked meanwhile
    asking ??= askKey(message).finally(() => (asking = undefined));
    const given = await asking;
    if (given === null) throw new ApiError(401, message, reason);
    key = given;
    sessionStorage.setItem(KEPT, given);
  }
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await request(path, signal ? { signal } : {})).json() as Promise<T>;
}

export async function sendJson<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const response = await request(path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
    ...(signal ? { signal } : {}),
  });
  return response.json() as Promise<T>;
}

async function said(response: Response): Promise<{ message: string; reason: string }> {
  try {
    const { error } = (await response.json()) as { error?: { message?: string; reason?: string } };
    if (error?.message) return { message: error.message, reason: error.reason ?? "" };
  } catch {
    // not ours: a proxy's own page, say
  }
  return { message: `${response.status} ${response.statusText}`.trim(), reason: "" };
}
