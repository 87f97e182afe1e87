// Bytes to text and back. The engine has no TextDecoder; its own functions for URIs are faster than a loop.

const CHUNK = 4096;

/** Throws if the bytes are not UTF-8. */
export function decode(bytes) {
  let escaped = "";
  for (let start = 0; start < bytes.length; start += CHUNK) {
    escaped += String.fromCharCode.apply(null, bytes.subarray(start, start + CHUNK));
  }
  return decodeURIComponent(escape(escaped));
}

export function encode(text) {
  const binary = unescape(encodeURIComponent(text));
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
