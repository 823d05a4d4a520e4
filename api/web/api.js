// Calls of the HTTP face.

// WireError is an error as the server words it, on HTTP and on the socket. "offline"
// and "disconnected" are this page's own: no answer came.
export class WireError extends Error {
  constructor({ code, message, outcome, retryable = false, retry_after_ms: after = 0 }) {
    super(message);
    Object.assign(this, { code, outcome, retryable, after });
  }
}

export const random = (bytes) =>
  btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(bytes))))
    .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

const timeout = 15_000; // above the server's own 5 s

// call makes one request and returns the answer's body; it throws WireError.
export async function call(method, path, { body, token } = {}) {
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let response, answer;
  try {
    response = await fetch(path, {
      method, headers, body: body && JSON.stringify(body),
      credentials: 'omit', cache: 'no-store', signal: AbortSignal.timeout(timeout),
    });
    answer = response.status === 204 ? null : await response.json();
  } catch {
    throw new WireError({ code: 'offline', message: 'The server does not answer.', retryable: true, retry_after_ms: 1000 });
  }
  if (!response.ok) throw new WireError(answer);
  return answer;
}

// quietly lets a request fail that is made again anyway: by the next connection, the
// next heartbeat, or the next push.
export async function quietly(work) {
  try {
    await work();
  } catch (err) {
    if (!(err instanceof WireError)) throw err;
  }
}
