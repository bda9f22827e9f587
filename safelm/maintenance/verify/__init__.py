"""Verification: every object that the build needs is hashed again, and damaged ones are remade.

DVC takes any read-only object in its cache as whole, whatever its bytes. It therefore serves,
pushes and builds on a flipped bit. Here an object is whole only if its bytes give its digest.
"""
