"""HTTP: routes, limits and error answers. The only Quart imports."""
