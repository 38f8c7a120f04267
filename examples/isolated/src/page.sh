#!/bin/sh
echo "Shop"
sh src/price.sh
echo "(c) 2025"
