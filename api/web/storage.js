// What the browser keeps for the page, as JSON. A browser may refuse (full, or private):
// the page then goes on with what it has in memory.

export function read(area, key, fallback) {
  try {
    return JSON.parse(area.getItem(key)) ?? fallback;
  } catch {
    return fallback;
  }
}

// keysOf lists what an area holds.
export function keysOf(area) {
  try {
    return Object.keys(area);
  } catch {
    return [];
  }
}

// write keeps value, or removes the key for null; false where the browser refuses.
export function write(area, key, value) {
  try {
    if (value === null) area.removeItem(key);
    else area.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
