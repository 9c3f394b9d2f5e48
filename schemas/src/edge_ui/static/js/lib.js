// What the other modules need of Preact and htm. The API leaves out fields that are null: `== null` asks for both.
import { Component, h, html, render, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";

export { html, render, useEffect, useLayoutEffect, useMemo, useRef, useState };

/** A component that is rendered again only if one of its props is another value. */
export function memo(component) {
  class Memo extends Component {
    shouldComponentUpdate(next) {
      const keys = Object.keys(next);
      return keys.length !== Object.keys(this.props).length || keys.some((key) => next[key] !== this.props[key]);
    }

    render() {
      return h(component, this.props);
    }
  }
  return Memo;
}

/** A value that components can subscribe to. */
export class Store {
  constructor(value) {
    this.value = value;
    this.listeners = new Set();
  }

  set(value) {
    if (value === this.value) return;
    const before = this.value;
    this.value = value;
    for (const listener of [...this.listeners]) listener(value, before);
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export function useStore(store) {
  const [value, set] = useState(store.value);
  useEffect(() => {
    set(() => store.value);
    return store.subscribe((next) => set(() => next));
  }, [store]);
  return value;
}
