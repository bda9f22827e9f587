"""Is what was built still what was built? Re-hash every object that the build needs, and remake
only what is damaged.

DVC takes any read-only object in its cache as whole, whatever its bytes, and so serves, pushes and
builds on a flipped bit. Here an object is whole when its bytes say so."""
