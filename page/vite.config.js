// Builds the page into the package that serves it. Nothing is fetched from elsewhere at run time, and nothing inline
// is written, so that the service can forbid both (Content-Security-Policy: default-src 'self').
import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // also right behind a proxy that serves it below a path
  build: {
    outDir: "../e2vsearch/server/static",
    emptyOutDir: true, // it lies outside this folder, where Vite would ask
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: "third-party-licences.md" },
    target: "es2022",
  },
  server: {
    // `npm run dev` beside `e2vsearch serve`: everything but the page's own files goes on to the service
    proxy: { "^/(query|segments|recordings|labels|filters|status|map|trends|tasks|classify)": "http://127.0.0.1:8080" },
  },
});
