// The hint of what a mistyped word meant; it lives with the errors, because every folder's messages give it.

export { nearest } from '../errors.js';
