/* A page opened from disk may not fetch other pages, so there search lists titles without excerpts. */
"use strict";
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
