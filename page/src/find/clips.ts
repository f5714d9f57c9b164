// The reader's own clips, so that Back and a reload find them again. They stay in this browser, for half a day.
const DATABASE = "e2vsearch";
const STORE = "clips";
const KEPT_MS = 12 * 3600 * 1000;

const held = new Map<number, File>();

function opened(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(DATABASE, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error ?? new Error("IndexedDB"));
  });
}

async function within<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
  try {
    const database = await opened();
    return await new Promise((resolve, reject) => {
      const asked = work(database.transaction(STORE, mode).objectStore(STORE));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error ?? new Error("IndexedDB"));
    });
  } catch {
    return undefined; // a private window, or no room: the clip lives as long as the page
  }
}

/** Keeps a clip, and returns the number by which an entry of the history names it: when it was given, in ms. */
export function keep(clip: File): number {
  const number = Date.now();
  held.set(number, clip);
  void within("readwrite", (store) => store.delete(IDBKeyRange.upperBound(number - KEPT_MS)));
  void within("readwrite", (store) => store.put(clip, number));
  return number;
}

/** The clip of that number; null where this browser keeps it no more. */
export async function clipOf(number: number): Promise<File | null> {
  const found = held.get(number) ?? (await within<File | undefined>("readonly", (store) => store.get(number)));
  if (!(found instanceof File) || number < Date.now() - KEPT_MS) return null;
  held.set(number, found);
  return found;
}
