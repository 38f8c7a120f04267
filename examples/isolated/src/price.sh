#!/bin/sh
echo "$((100 * 20 / 100)) of 100 is VAT"
